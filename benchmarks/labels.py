"""Masks to measure on: real rows of the competition where a labels CSV is given, made-up ones otherwise."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.rle import rle_decode_batch, rle_encode_batch

MADE_UP_SHAPE, MADE_UP_SCANS = (80, 266, 266), 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--labels`` and ``--inventory``, which go together."""
    parser.add_argument(
        "--labels", type=Path, help="a train.csv (id, class, segmentation); made-up masks if left out"
    )
    parser.add_argument(
        "--inventory", type=Path, help="CSV with id and path of each slice: sizes are in the file names"
    )


def read_rows(options: argparse.Namespace) -> pd.DataFrame:
    """Rows id, class, segmentation, scan, height, width; says on the first line where they come from."""
    if options.labels is None:
        print(f"made-up masks (no --labels): {MADE_UP_SCANS} scans of {MADE_UP_SHAPE}", flush=True)
        return made_up_rows()
    if options.inventory is None:
        raise SystemExit("--labels needs --inventory, which holds the sizes of the slices")
    rows = pd.read_csv(options.labels, keep_default_na=False).merge(read_sizes(options.inventory), on="id")
    print(f"{len(rows):,} rows of {rows['scan'].nunique()} scans out of {options.labels}", flush=True)
    return rows


def read_sizes(inventory: Path) -> pd.DataFrame:
    """Every slice of an inventory: id, scan, height, width."""
    slices = pd.read_csv(inventory)
    sides = slices["path"].str.extract(r"slice_\d+_(?P<width>\d+)_(?P<height>\d+)_").astype(int)
    return pd.concat(
        [slices["id"], slices["id"].str.rsplit("_slice_", n=1).str[0].rename("scan"), sides], axis=1
    )


def made_up_rows() -> pd.DataFrame:
    """Smooth blobs, some of them hollow, about as large as organs."""
    generator = np.random.default_rng(0)
    tables = []
    for number in range(MADE_UP_SCANS):
        scan = f"case{number + 1}_day0"
        for organ, share in zip(ORGANS, (0.012, 0.009, 0.006), strict=True):
            field = ndimage.gaussian_filter(generator.normal(size=MADE_UP_SHAPE), (5, 14, 14))
            volume = field > np.quantile(field, 1 - share)
            tables.append(to_rows(volume, scan, organ))
    return pd.concat(tables, ignore_index=True)


def to_rows(volume: np.ndarray, scan: str, organ: str) -> pd.DataFrame:
    """Rows of one organ's ``(z, y, x)`` masks."""
    ids = [f"{scan}_slice_{z + 1:04d}" for z in range(len(volume))]
    height, width = volume.shape[1:]
    rles = rle_encode_batch(volume)
    return pd.DataFrame(
        {"id": ids, "class": organ, "segmentation": rles, "scan": scan, "height": height, "width": width}
    )


def organ_volumes(rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Name and ``(z, y, x)`` mask of each scan's organs, those without a voxel left out."""
    for (scan, organ), group in rows.sort_values("id").groupby(["scan", "class"]):
        volume = rle_decode_batch(group["segmentation"], (group["height"].iloc[0], group["width"].iloc[0]))
        if volume.any():
            yield f"{scan} {organ}", volume


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor time, over all threads: on a busy machine, wall clocks measure the neighbours."""
    start = time.process_time()
    work()
    return time.process_time() - start


def print_row(*cells: object) -> None:
    """One line of a table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def print_header(*names: str) -> None:
    """The first two lines of a table; all columns but the first are numbers."""
    print_row(*names)
    print_row("---", *["---:"] * (len(names) - 1))
