"""How quickly scans are decoded and cached, against the public way, and how large a full set's cache is.

    python benchmarks/prepare.py [ROOT] [--turns 3]

ROOT is a competition folder; without it, or where it is not there, a phantom is made in a temporary folder. The public
way is a loop in one process: cv2.imread of a slice, np.save of the slice. Ours is `cache_scans`: whole volumes, flushed
to the disk before they take their place, which the public way's files are not. Both start from files that are in
memory, and write to a new folder; they take turns. On a busy machine the clock says little of several threads:
processor time divided by the cores is what cache_scans would take on idle ones.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from gitract_kit.competition.index import build_index
from gitract_kit.competition.phantom import write_phantom
from gitract_kit.data.scans import cache_scans

# the training set of the competition
FULL_SET_SLICES, FULL_SET_RAW_GB = 38_496, 6.4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, nargs="?")
    parser.add_argument("--turns", type=int, default=3, help="that count; one before them does not")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        index = build_index(find_root(options.root, work), "train")
        ways = {"public way": cache_publicly, "cache_scans": cache_ours}
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(options.turns + 1):
            for name, cache in ways.items():
                seconds[name].append(time_of(cache, index, work / f"{name} {turn}"))
        print_result(index, seconds, work / "cache_scans 0")


def find_root(root: Path | None, folder: Path) -> Path:
    if root is not None and root.is_dir():
        return root
    print(f"{root or 'no folder given'}: a phantom instead")
    return write_phantom(folder / "phantom", seed=5, cases=4, test_cases=1, days=1).root


def time_of(
    cache: Callable[[pd.DataFrame, Path], None], index: pd.DataFrame, folder: Path
) -> tuple[float, float]:
    """Seconds on the clock, and of processor time, all threads together."""
    folder.mkdir()
    start, worked = time.perf_counter(), time.process_time()
    cache(index, folder)
    return time.perf_counter() - start, time.process_time() - worked


def cache_publicly(index: pd.DataFrame, folder: Path) -> None:
    for slice_id, path in zip(index["id"], index["path"], strict=True):
        np.save(folder / f"{slice_id}.npy", cv2.imread(path, cv2.IMREAD_UNCHANGED))


def cache_ours(index: pd.DataFrame, folder: Path) -> None:
    for _ in cache_scans(index, folder):
        pass


def print_result(index: pd.DataFrame, seconds: dict[str, list[tuple[float, float]]], cache: Path) -> None:
    print(f"{len(index)} slices of {index['scan'].nunique()} scans, {os.cpu_count()} cores")
    counted = {name: taken[1:] for name, taken in seconds.items()}
    print(f"{'ms a slice':14}{'clock':>8}{'processor':>11}")
    for name, taken in counted.items():
        clock, processor = (
            statistics.median(column) / len(index) * 1e3 for column in zip(*taken, strict=True)
        )
        print(f"{name:14}{clock:8.3f}{processor:11.3f}")
    ratios = [public / ours for (public, _), (ours, _) in zip(*counted.values(), strict=True)]
    print(
        f"cache_scans is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    size = sum(path.stat().st_size for path in cache.iterdir())
    raw = 2 * int((index["width"] * index["height"]).sum())
    print(
        f"cache {size / 1e6:.1f} MB, {size / raw:.4f} of raw uint16: {size / raw * FULL_SET_RAW_GB:.2f} GB for the "
        f"{FULL_SET_SLICES} slices of a full set, which are {FULL_SET_RAW_GB} GB raw"
    )


if __name__ == "__main__":
    main()
