"""Seconds and memory to decode and score a whole training set's worth of scans.

    python benchmarks/score_at_scale.py [--labels TRAIN_CSV --inventory CSV] [--workers 2] [--variant leaderboard]

The labelled scans are repeated over all scans of the inventory, fitted to their sizes and depths; the prediction is
a copy that is shifted, dilated or speckled, with slices left out. Each size is scored in a process of its own, so
that its peak memory, tables and all, is seen. On an idle machine with as many cores as ``--workers``, seconds are near
processor seconds divided by their number; on a busy one the latter are what compares.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from labels import add_options, organ_volumes, print_header, print_row, read_rows, read_sizes, to_rows

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.metric import VARIANTS, competition_score

MADE_UP_SCANS = 24


def scan_volumes(rows: pd.DataFrame) -> list[np.ndarray]:
    """``(z, organ, y, x)`` masks of each labelled scan."""
    volumes: dict[str, dict[str, np.ndarray]] = {}
    for name, volume in organ_volumes(rows):
        scan, organ = name.split()
        volumes.setdefault(scan, {})[organ] = volume
    return [
        np.stack([organs.get(organ, np.zeros_like(next(iter(organs.values())))) for organ in ORGANS], axis=1)
        for organs in volumes.values()
    ]


def write_tables(rows: pd.DataFrame, slices: pd.DataFrame, folder: Path) -> None:
    """truth.csv, prediction.csv and sizes.csv for every slice."""
    volumes = scan_volumes(rows)
    generator = np.random.default_rng(0)
    truth, prediction = [], []
    for number, (scan, group) in enumerate(slices.groupby("scan", sort=False)):
        shape = (len(group), group["height"].iloc[0], group["width"].iloc[0])
        same_size = [volume for volume in volumes if volume.shape[2:] == shape[1:]] or volumes
        volume = fit(same_size[number % len(same_size)], shape)
        other = alter(volume, generator)
        ids = sorted(group["id"])
        for masks, tables in ((volume, truth), (other, prediction)):
            tables += [to_rows(masks[:, k], scan, organ).assign(id=ids) for k, organ in enumerate(ORGANS)]
    columns = ["id", "class", "segmentation"]
    pd.concat(truth)[columns].to_csv(folder / "truth.csv", index=False)
    pd.concat(prediction)[columns].rename(columns={"segmentation": "predicted"}).to_csv(
        folder / "prediction.csv", index=False
    )
    slices.to_csv(folder / "sizes.csv", index=False)


def fit(volume: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The middle slices, cut or padded with background to the size."""
    z = max(len(volume) - shape[0], 0) // 2
    fitted = np.zeros((shape[0], volume.shape[1], *shape[1:]), dtype=bool)
    part = volume[z : z + shape[0], :, : shape[1], : shape[2]]
    fitted[tuple(slice(length) for length in part.shape)] = part
    return fitted


def alter(volume: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    other = np.roll(volume, tuple(generator.integers(-4, 5, 3)), axis=(0, 2, 3))
    if generator.random() < 0.5:
        for mask in itertools.chain.from_iterable(other):
            if mask.any():
                mask[:] = cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8))
    if generator.random() < 0.5:
        other[tuple(generator.integers(0, length) for length in other.shape)] = True
    other[generator.integers(0, len(other), 3)] = False
    return other


def measure(folder: Path, n_scans: int, variant: str, workers: int) -> list[str]:
    slices = pd.read_csv(folder / "sizes.csv")
    slices = slices[slices["scan"].isin(slices["scan"].unique()[:n_scans])]
    truth, prediction = (
        rows[rows["id"].isin(slices["id"])]
        for rows in (
            pd.read_csv(folder / f"{name}.csv", keep_default_na=False) for name in ("truth", "prediction")
        )
    )
    start, start_cpu = time.perf_counter(), time.process_time()
    score = competition_score(truth, prediction, slices, variant, workers=workers)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        str(score.scans), f"{score.rows:,}", f"{seconds:.1f}", f"{cpu:.1f}", f"{1000 * cpu / score.scans:.0f}",
        f"{peak_gb:.2f}", f"{score.total:.5f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--workers", type=int, default=2, help="scans scored side by side")
    parser.add_argument("--variant", choices=VARIANTS, default=VARIANTS[0])
    options = parser.parse_args()
    rows = read_rows(options)
    slices = made_up_slices(rows) if options.inventory is None else read_sizes(options.inventory)
    total = slices["scan"].nunique()
    with tempfile.TemporaryDirectory() as name:
        write_tables(rows, slices, Path(name))
        print(f"\n{options.variant}, {options.workers} scans side by side\n")
        print_header("scans", "rows", "seconds", "processor s", "processor ms a scan", "peak GB", "score")
        for n_scans in (total // 4, total // 2, total):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                print_row(
                    *pool.submit(measure, Path(name), n_scans, options.variant, options.workers).result()
                )


def made_up_slices(rows: pd.DataFrame) -> pd.DataFrame:
    one = rows.drop_duplicates("id")
    one = one[one["scan"] == one["scan"].iloc[0]][["id", "scan", "height", "width"]]
    copies = [one.replace({"case1_": f"case{n + 1}_"}, regex=True) for n in range(MADE_UP_SCANS)]
    return pd.concat(copies, ignore_index=True)


if __name__ == "__main__":
    main()
