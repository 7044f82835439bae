"""One row a slice of a competition folder: where it is, how big, how spaced, what is drawn on it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from gitract_kit.competition.image_mask import build_picture_index, choose_classes
from gitract_kit.competition.layout import IMAGE_MASK, INDEX_COLUMNS, LAYOUTS, UW_MADISON, Layout
from gitract_kit.competition.names import ScanName, SliceFile, SliceName, parse_case
from gitract_kit.competition.tables import read_labels
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.strict import nearest

__all__ = ["build_index", "choose_layout", "read_labels", "read_sizes"]

_T = TypeVar("_T")
_R = TypeVar("_R")
_Slice = tuple[SliceFile, str]

_SPLITS = ("train", "test")
_PNG_START = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"


def choose_layout(name: str, root: str | Path, classes: Sequence[str] = ()) -> Layout:
    """The layout ``name`` of the folder ``root``, with ``classes`` where it leaves their names open (`choose_classes`).

    `SettingsError` for an unknown name, and for classes of a layout that has its own.
    """
    if name not in LAYOUTS:
        raise SettingsError(f"no layout is called {name!r}{nearest(name, LAYOUTS)}")
    if name == IMAGE_MASK.name:
        return choose_classes(root, classes)
    if classes:
        own = ", ".join(LAYOUTS[name].organs)
        raise SettingsError(f"the classes of the layout {name} are {own}: name none for it")
    return LAYOUTS[name]


def build_index(
    root: str | Path,
    split: str = "train",
    *,
    layout: Layout = UW_MADISON,
    check_headers: bool = True,
    faults: list[DatasetError] | None = None,
) -> pd.DataFrame:
    """One row a slice of ``root/split``, in natural order: by case, day and slice as numbers.

    Columns: ``id``, ``case`` ("case123"), ``day`` (20), ``scan`` ("case123_day20"), ``slice`` (65), ``path``
    (``root`` joined), ``width`` and ``height`` in pixels, ``spacing_x_mm``, ``spacing_y_mm``, ``bad_scan``
    (the host lists its labels as wrong) and, for ``train``, one column of run-length strings an organ.
    Size and spacing are those of the file's name, which the whole scan must share; with ``check_headers``
    the size must be the PNG's own too. A file without a whole PNG header is left to whoever decodes it: one
    damaged file of a hidden test must cost its scan, not the run.

    :class:`DatasetError` names the file or id: a name outside the layout, a missing folder or table, a
    slice number twice in a scan, a size that disagrees, an id without a file or a file without rows.
    Names that begin with a dot are passed over. Given a list as ``faults``, scans at fault are left out and
    their errors appended to it; a table that then disagrees with the files is still an error.

    That is so where masks are run lengths in a table; of a ``layout`` with mask pictures it is `build_picture_index`.
    """
    if split not in _SPLITS:
        raise SettingsError(f"split is {split!r}, expected one of {', '.join(_SPLITS)}")
    if layout.mask_values:
        return build_picture_index(root, split, layout, faults)
    root = Path(root)
    folder = _split_folder(root, split)
    labels = read_labels(_labels_path(root), layout) if split == "train" else None
    days = [day for case in _each(_entries(folder), _list_days, faults) for day in case]
    scans = dict(_each(days, lambda day: _read_scan(day, check_headers), faults))
    rows = [_row(scan, *slices, layout) for scan in sorted(scans) for slices in scans[scan]]
    index = pd.DataFrame(rows, columns=list(INDEX_COLUMNS))
    return index if labels is None else _join_labels(index, labels, root)


def _split_folder(root: Path, split: str) -> Path:
    if not os.path.isdir(root):
        raise DatasetError(f"{root} is not a folder: give the folder that holds train.csv and train/")
    folder = root / split
    if not os.path.isdir(folder) or not _entries(folder):
        raise DatasetError(_nothing_there(root, split))
    return folder


def _labels_path(root: Path) -> Path:
    path = root / "train.csv"
    if not os.path.isfile(path):
        raise DatasetError(_nothing_there(root, path.name))
    return path


def _nothing_there(root: Path, name: str) -> str:
    held = [entry.name for entry in _entries(root)]
    listed = ", ".join(held[:8]) + (f" and {len(held) - 8} more" if len(held) > 8 else "")
    lack = f"{name} in {root} is empty" if name in held else f"{root} has no {name}"
    if name == "test":
        step = "the public download's is empty and the hidden rerun's is full; `gitract phantom` makes one up"
    else:
        step = "give the folder that holds train.csv and train/"
    return f"{lack}; it holds {listed or 'nothing'}: {step}"


def _entries(folder: str | Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    """What a folder holds, by name; dot-files are the file system's own business."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as fault:
        path = os.fspath(folder)
        raise DatasetError(f"{path} cannot be listed ({fault.strerror}): expected a folder") from fault


def _each(items: Iterable[_T], read: Callable[[_T], _R], faults: list[DatasetError] | None) -> Iterator[_R]:
    for item in items:
        try:
            yield read(item)
        except DatasetError as fault:
            if faults is None:
                raise
            faults.append(fault)


def _list_days(case_folder: os.DirEntry[str]) -> list[os.DirEntry[str]]:
    _parse(parse_case, case_folder)
    return _entries(case_folder)


def _read_scan(day_folder: os.DirEntry[str], check_headers: bool) -> tuple[ScanName, list[_Slice]]:
    """The scan's name and its slices in order, once they agree with each other."""
    scan = _parse(ScanName.parse, day_folder)
    case_folder = os.path.dirname(day_folder.path)
    if os.path.basename(case_folder) != f"case{scan.case}":
        raise DatasetError(f"{day_folder.path} is in the wrong place: expected it in case{scan.case}/")
    held = _entries(day_folder)
    if [entry.name for entry in held] != ["scans"]:
        names = ", ".join(entry.name for entry in held[:8]) or "nothing"
        raise DatasetError(f"{day_folder.path} holds {names}: expected one folder, scans/")
    slices = sorted((_parse(SliceFile.parse, entry), entry.path) for entry in _entries(held[0]))
    if not slices:
        raise DatasetError(f"{held[0].path} is empty: expected the slices of {scan} as PNG files")
    _check_slices(slices, check_headers)
    return scan, slices


def _check_slices(slices: list[_Slice], check_headers: bool) -> None:
    first, first_path = slices[0]
    for (previous, previous_path), (file, path) in pairwise(slices):
        if file.slice == previous.slice:
            raise DatasetError(f"{previous_path} and {path} are both slice {file.slice}: remove one of them")
        if _geometry(file) != _geometry(first):
            raise DatasetError(
                f"{first_path} and {path} differ in size or spacing: expected one of each a scan"
            )
    if check_headers:
        for file, path in slices:
            _check_header(file, path)


def _geometry(file: SliceFile) -> tuple[float, ...]:
    return file.width, file.height, file.spacing_x_mm, file.spacing_y_mm


def _check_header(file: SliceFile, path: str) -> None:
    try:
        with open(path, "rb", buffering=0) as png:
            header = png.read(len(_PNG_START) + 8)
    except OSError as fault:
        raise DatasetError(f"{path} cannot be read ({fault.strerror}): expected a PNG file") from fault
    if len(header) < len(_PNG_START) + 8 or not header.startswith(_PNG_START):
        return
    width, height = struct.unpack(">II", header[-8:])
    if (width, height) != (file.width, file.height):
        raise DatasetError(
            f"{path} is {width} wide and {height} high, but its name says {file.width} and {file.height} "
            "(width first): download it again or mend its name"
        )


def _parse(parse: Callable[[str], _R], entry: os.DirEntry[str]) -> _R:
    try:
        return parse(entry.name)
    except DatasetError as fault:
        raise DatasetError(f"{entry.path}: {fault}; remove or rename it") from fault


def _row(scan: ScanName, file: SliceFile, path: str, layout: Layout) -> tuple[Any, ...]:
    name = SliceName(scan.case, scan.day, file.slice)
    bad = str(scan) in layout.bad_scans
    return (str(name), f"case{scan.case}", scan.day, str(scan), file.slice, path, *_geometry(file), bad)


def _join_labels(index: pd.DataFrame, labels: pd.DataFrame, root: Path) -> pd.DataFrame:
    without_file = labels["id"][~labels["id"].isin(index["id"])]
    if len(without_file):
        raise DatasetError(
            f"{root / 'train.csv'}: ids without a file under {root / 'train'}: {len(without_file)}; the first is "
            f"{without_file.iloc[0]}: complete the download, or take their rows out"
        )
    without_rows = index["path"][~index["id"].isin(labels["id"])]
    if len(without_rows):
        raise DatasetError(
            f"files without rows in {root / 'train.csv'}: {len(without_rows)}; the first is "
            f"{without_rows.iloc[0]}: give the train.csv that belongs to this folder"
        )
    return index.merge(labels, on="id", how="left", validate="one_to_one")


def read_sizes(path: str | Path) -> pd.DataFrame:
    """The sizes of slices from a table, for where the folder is not at hand: ``id``, ``height``, ``width``.

    The table is a CSV (may be gzipped) with ``id`` and either ``width`` and ``height`` in pixels or ``path``, whose
    file names hold them. Anything else is a :class:`DatasetError`.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: not a readable table ({error}); give a CSV with id, width and height"
        ) from error
    if {"id", "path"} <= set(table.columns):
        files = [SliceFile.parse(text.rpartition("/")[2]) for text in table["path"]]
        return pd.DataFrame(
            {
                "id": table["id"],
                "height": [one.height for one in files],
                "width": [one.width for one in files],
            }
        )
    if not {"id", "width", "height"} <= set(table.columns):
        raise DatasetError(
            f"{path} has the columns {', '.join(table.columns)}, expected id, width and height, or id and path"
        )
    try:
        return table[["id", "height", "width"]].astype({"height": int, "width": int})
    except ValueError as error:
        raise DatasetError(
            f"{path}: a width or height is not a whole number ({error}); mend the table"
        ) from error
