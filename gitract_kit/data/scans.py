"""Scans as volumes: decoded once, cached one file a scan, mapped into memory when used."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from gitract_kit.competition.pictures import decode_picture
from gitract_kit.errors import ScanError
from gitract_kit.files import atomic_path
from gitract_kit.settings import IntensitySettings

__all__ = [
    "Scan",
    "cache_scans",
    "decode_scan",
    "decode_slice",
    "intensity_range",
    "iterate_scans",
    "load_cached_scan",
]


@dataclass(frozen=True)
class Scan:
    """One scan (a case on a day) as a volume."""

    name: str
    """``case123_day20``."""
    ids: tuple[str, ...]
    """The slices' ids, in the order of z."""
    slice_numbers: np.ndarray
    """(z,) int64, ascending: the numbers in the file names."""
    volume: np.ndarray
    """(z, y, x) uint16, possibly mapped from a file."""
    spacing_mm: tuple[float, float]
    """Pixel spacing (y, x)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of a slice."""
        return self.volume.shape[1:]


def decode_slice(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Return the slice at ``path`` as (h, w) uint16.

    8-bit files are widened by 257, so that white stays white; colour files become gray. A file that is missing,
    empty, torn, or not of ``shape`` is a `ScanError` that names it.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    image = _decode(content)
    if image is None:
        raise ScanError(f"{path}: not a whole image ({len(content)} bytes); fetch the file again")
    if image.shape != tuple(shape):
        raise ScanError(
            f"{path}: holds {image.shape[1]} x {image.shape[0]} pixels, its name says {shape[1]} x {shape[0]}"
        )
    return image


def _decode(content: np.ndarray) -> np.ndarray | None:
    image = decode_picture(content)
    if image is None:
        return None
    if image.ndim == 3:
        image = image[..., 0] if image.shape[2] == 1 else cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2GRAY)
    return image.astype(np.uint16) * 257 if image.dtype == np.uint8 else image.astype(np.uint16, copy=False)


def decode_scan(rows: pd.DataFrame, workers: int | None = None) -> Scan:
    """Return the scan whose index rows (`build_index`) are given, decoded by ``workers`` threads."""
    rows = rows.sort_values("slice", kind="stable")
    first = rows.iloc[0]
    shape = int(first["height"]), int(first["width"])
    volume = np.empty((len(rows), *shape), dtype=np.uint16)

    def decode_into(position: int, path: str) -> None:
        volume[position] = decode_slice(path, shape)

    # OpenCV decodes outside the interpreter's lock, so threads are enough
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        list(pool.map(decode_into, range(len(rows)), rows["path"]))
    return _scan(rows, volume)


def iterate_scans(index: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (name, rows) a scan, in the index's order."""
    yield from index.groupby("scan", sort=False)


def cache_scans(index: pd.DataFrame, folder: str | Path) -> Iterator[str]:
    """Write every scan of ``index`` to ``folder`` as ``SCAN.npy`` (z, y, x) uint16, yielding its name when it is there.

    ``SCAN.json`` beside it names the files that it was made from, with their sizes and times. A cached scan that is
    already there is kept where those are the same still; else, and where there is no such record, it is decoded again.
    A scan's file is written whole or not at all.
    """
    folder = Path(folder)
    # a scan a core, and one more: some always wait for the disk
    pool = ThreadPoolExecutor((os.cpu_count() or 1) + 1)
    try:
        yield from pool.map(lambda scan: _cache_scan(*scan, folder), iterate_scans(index))
    finally:
        # after a scan that fails the others need not be decoded
        pool.shutdown(cancel_futures=True)


def _cache_scan(name: str, rows: pd.DataFrame, folder: Path) -> str:
    path, record = folder / f"{name}.npy", folder / f"{name}.json"
    rows = rows.sort_values("slice", kind="stable")
    # looked at before they are decoded: what is changed meanwhile differs from the record the next time
    sources = _sources(rows["path"])
    if path.is_file() and _read_record(record) == sources:
        return name
    # the record goes before its scan is replaced and comes after, so that it never stands beside another one's
    record.unlink(missing_ok=True)
    shape = int(rows.iloc[0]["height"]), int(rows.iloc[0]["width"])
    header = {"descr": "<u2", "fortran_order": False, "shape": (len(rows), *shape)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        # slice by slice: fresh memory for a whole volume costs a third of what decoding does
        for picture in rows["path"]:
            file.write(np.ascontiguousarray(decode_slice(picture, shape)))
    # not flushed, which would take as long as the scan of a single picture: half a record only has it decoded again
    record.write_text(json.dumps({"sources": sources}) + "\n", encoding="utf-8")
    return name


def _sources(paths: pd.Series) -> list[list[str | int]]:
    """Return the name, the size in bytes and the time of change in ns of every file, in order."""
    # names and no folders: the same data may be mounted elsewhere
    return [[Path(path).name, *_size_and_time(path)] for path in paths]


def _size_and_time(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    return status.st_size, status.st_mtime_ns


def _read_record(path: Path) -> list[list[str | int]] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["sources"]
    except (OSError, ValueError, KeyError, TypeError):
        # none, or not ours: the scan is decoded again
        return None


def load_cached_scan(rows: pd.DataFrame, folder: str | Path) -> Scan:
    """Return the scan of the given index rows from its cache file, mapped into memory and not read yet."""
    rows = rows.sort_values("slice", kind="stable")
    path = Path(folder) / f"{rows.iloc[0]['scan']}.npy"
    try:
        volume = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ScanError(f"{path}: no such cached scan ({error}); run `gitract prepare` again") from error
    expected = (len(rows), int(rows.iloc[0]["height"]), int(rows.iloc[0]["width"]))
    if volume.shape != expected or volume.dtype != np.uint16:
        raise ScanError(
            f"{path}: holds {volume.dtype} {volume.shape}, the index says uint16 {expected}; "
            "delete the file and run `gitract prepare` again"
        )
    return _scan(rows, volume)


def _scan(rows: pd.DataFrame, volume: np.ndarray) -> Scan:
    first = rows.iloc[0]
    return Scan(
        name=str(first["scan"]),
        ids=tuple(rows["id"]),
        slice_numbers=rows["slice"].to_numpy(dtype=np.int64),
        volume=volume,
        spacing_mm=(float(first["spacing_y_mm"]), float(first["spacing_x_mm"])),
    )


def intensity_range(volume: np.ndarray, settings: IntensitySettings) -> tuple[float, float]:
    """Return the values of ``volume`` (z, y, x) that become 0 and 1; the second is larger, also for a flat volume."""
    # every fourth pixel in y and x: a sixteenth of the work, and the percentiles of smooth images stay
    sample = volume[:, ::4, ::4]
    low, high = np.percentile(sample, [settings.low_percentile, settings.high_percentile])
    return float(low), float(max(high, low + 1.0))
