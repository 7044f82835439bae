"""Which slices a prediction reads: the test folder's, or stand-ins where a notebook is saved without one."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import Layout
from gitract_kit.errors import DatasetError
from gitract_kit.settings import PredictionSettings

__all__ = ["find_slices", "holds_scans"]


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
    *,
    rows_wanted: bool,
) -> tuple[str, pd.DataFrame]:
    """Return the split that is read and its index rows (`build_index`).

    Without test scans, and with no rows wanted of them, these are the first ``empty_test_scans`` scans of the training
    folder, or none, as ``settings.on_empty_test`` says. Where rows are wanted and no scans are there, a `DatasetError`.
    """
    root = Path(root)
    if split != "test" or rows_wanted or holds_scans(root / "test"):
        return split, build_index(root, split, layout=layout)
    if not root.is_dir():
        raise DatasetError(
            f"{root} is not a folder: give the folder that holds test/ and sample_submission.csv"
        )
    if settings.on_empty_test == "header":
        return "test", pd.DataFrame(columns=["id", "scan", "width", "height"], dtype=object)
    index = build_index(root, "train", layout=layout)
    first = index["scan"].drop_duplicates().head(settings.empty_test_scans)
    return "train", index[index["scan"].isin(first)]
