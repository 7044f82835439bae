"""Which slices a prediction reads: the test folder's, or stand-ins where a notebook is saved without one."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import Layout
from gitract_kit.competition.pictures import find_folder
from gitract_kit.errors import DatasetError
from gitract_kit.inference.faults import FaultLog
from gitract_kit.inference.rows import SubmissionRows
from gitract_kit.settings import PredictionSettings

__all__ = ["find_slices", "holds_scans", "wanted_slices"]

_NO_SLICES = pd.DataFrame(columns=["id", "scan", "path", "width", "height"], dtype=object)


def holds_scans(folder: str | Path) -> bool:
    """Return whether ``folder`` is there and holds anything; files that begin with a dot do not count."""
    try:
        with os.scandir(folder) as entries:
            return any(not entry.name.startswith(".") for entry in entries)
    except OSError:
        return False


def find_slices(
    root: str | Path,
    split: str,
    settings: PredictionSettings,
    layout: Layout,
    faults: FaultLog,
    *,
    rows_wanted: bool,
) -> tuple[str, pd.DataFrame]:
    """Return the split that is read and its index rows (`build_index`).

    Without test scans, and with no rows wanted of them, these are the first ``empty_test_scans`` scans of the training
    folder, or none, as ``settings.on_empty_test`` says. Where rows are wanted and no scans are there, or the layout has
    no sample that could want any, a `DatasetError`. Faults go to ``faults``: where it lives with them, their scans are
    left out.
    """
    root = Path(root)
    test_folder = find_folder(root, layout.test_folder)
    # stand-ins are for a notebook that is saved before its test is there, and such a one has a sample of the rows
    if layout.sample is None or split != "test" or rows_wanted or (test_folder and holds_scans(test_folder)):
        return split, _build_index(root, split, layout, faults)
    if not root.is_dir():
        raise DatasetError(
            f"{root} is not a folder: give the competition folder, which holds {layout.test_folder}"
        )
    if settings.on_empty_test == "header":
        return "test", _NO_SLICES
    index = build_index(root, "train", layout=layout)
    first = index["scan"].drop_duplicates().head(settings.empty_test_scans)
    return "train", index[index["scan"].isin(first)]


def wanted_slices(index: pd.DataFrame, rows: SubmissionRows, faults: FaultLog) -> pd.DataFrame:
    """Return the index rows of the scans that ``rows`` are wanted of, each scan whole.

    An id without a file, and a file of such a scan without an id, are faults; a file without an id is still a
    neighbour of others.
    """
    ids = pd.Index(rows.ids)
    _note_ids_without_file(ids.difference(index["id"], sort=False), faults)
    has_row = index["id"].isin(ids)
    extra = index[~has_row]
    if len(extra):
        first = extra["path"].iloc[0]
        error = DatasetError(
            f"{first} has no row in the sample, as the first of {len(extra)} files: give the sample that belongs to "
            "this folder, or take the files out"
        )
        faults.note(error, extra["scan"].iloc[0], lost=False)
    return index[index["scan"].isin(index["scan"][has_row].unique())]


def _build_index(root: Path, split: str, layout: Layout, faults: FaultLog) -> pd.DataFrame:
    if not faults.tolerant:
        return build_index(root, split, layout=layout)
    left_out: list[DatasetError] = []
    try:
        index = build_index(root, split, layout=layout, faults=left_out)
    except DatasetError as error:
        left_out.append(error)
        index = _NO_SLICES
    # what they cost is counted by the ids that are left without a file
    for error in left_out:
        faults.note(error, lost=False)
    return index


def _note_ids_without_file(ids: pd.Index, faults: FaultLog) -> None:
    by_scan: dict[str, list[str]] = {}
    for slice_id in ids:
        by_scan.setdefault(slice_id.rpartition("_slice_")[0] or slice_id, []).append(slice_id)
    for scan, missing in by_scan.items():
        error = DatasetError(
            f"{scan}: {len(missing)} of the sample's ids have no file, {missing[0]} the first: complete the test folder"
        )
        faults.note(error, scan)
