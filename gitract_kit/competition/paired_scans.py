"""The rows of a truth and a prediction side by side, scan by scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gitract_kit.competition.layout import Layout
from gitract_kit.competition.tables import describe_rows, row_keys
from gitract_kit.errors import DatasetError, InputError, SubmissionError

__all__ = ["PairedScans", "ScanRows", "Sizes", "pair_scans"]

Sizes = Mapping[str, tuple[int, int]] | pd.DataFrame

_TRUTH_COLUMNS = ("segmentation", "predicted")
_PREDICTION_COLUMNS = ("predicted", "segmentation")


@dataclass(frozen=True, eq=False)
class ScanRows:
    """The rows of one scan that are scored, in the order of its slices."""

    name: str
    """The scan's name, ``case123_day20``."""
    extent: tuple[int, int, int]
    """Slices that the truth has of the scan, and their height and width in pixels."""
    ids: list[str]
    """Id of each slice."""
    z: np.ndarray
    """Place of each slice among the truth's slices of the scan, from 0."""
    rles_true: np.ndarray
    """``(slice, organ)`` run-length strings of the truth."""
    rles_pred: np.ndarray
    """``(slice, organ)`` run-length strings of the prediction."""


@dataclass(frozen=True)
class PairedScans:
    """All scans to score, and what is left out."""

    scans: list[ScanRows]
    """Scans with at least one slice in both tables, in the truth's order."""
    ids_only_in_truth: int
    """Slices left out because the prediction lacks them."""
    ids_only_in_prediction: int
    """Slices left out because the truth lacks them."""


def pair_scans(
    truth: pd.DataFrame, prediction: pd.DataFrame, sizes: Sizes, organs: Sequence[str], only_common: bool
) -> PairedScans:
    """Rows of both tables by scan; with ``only_common`` ids that one of them lacks are left out and counted.

    Faults of the truth and of ``sizes`` are a :class:`DatasetError`, those of the prediction a
    :class:`SubmissionError`: both say how many rows or ids are at fault and name the first.
    """
    layout = Layout(name="", organs=tuple(organs), competition_slug="")
    rows_true = _rows(truth, "the truth", _TRUTH_COLUMNS, DatasetError)
    rows_pred = _rows(prediction, "the prediction", _PREDICTION_COLUMNS, SubmissionError)
    if rows_true.empty:
        raise DatasetError("the truth has no rows: give the train.csv or solution.csv of these slices")
    # row_keys numbers the ids in this order
    ids = pd.unique(np.concatenate([rows["id"].to_numpy(dtype=object) for rows in (rows_true, rows_pred)]))
    keys_true, keys_pred = row_keys([rows_true, rows_pred], layout)
    rles_true, in_true = _by_id(rows_true, keys_true, ids, layout, "the truth", DatasetError)
    rles_pred, in_pred = _by_id(rows_pred, keys_pred, ids, layout, "the prediction", SubmissionError)
    _check_ids(ids, in_true, in_pred, only_common)
    heights_and_widths = _sizes_by_id(sizes)
    scans = []
    for name, members in _slices_by_scan(ids, in_true, sizes).items():
        z = np.flatnonzero(in_pred[members])
        if z.size:
            scored = members[z]
            extent = (members.size, *_size_of_scan(name, ids[scored], heights_and_widths))
            scans.append(ScanRows(name, extent, list(ids[scored]), z, rles_true[scored], rles_pred[scored]))
    return PairedScans(scans, int((in_true & ~in_pred).sum()), int((in_pred & ~in_true).sum()))


def _rows(
    table: pd.DataFrame, name: str, mask_columns: Sequence[str], error: type[InputError]
) -> pd.DataFrame:
    """``id, class, rle`` of a table; a missing mask is ""."""
    if not isinstance(table, pd.DataFrame):
        raise error(
            f"{name} is a {type(table).__name__}, expected a table: read the file with read_csv first"
        )
    found = [column for column in mask_columns if column in table.columns]
    if not found or not {"id", "class"} <= set(table.columns) or not table.columns.is_unique:
        raise error(
            f"{name} has the columns {', '.join(map(str, table.columns[:10]))}, "
            f"expected id, class, {mask_columns[0]}"
        )
    rows = pd.DataFrame({"id": table["id"], "class": table["class"], "rle": table[found[0]]})
    rows = rows.astype(object).reset_index(drop=True)
    rows["rle"] = rows["rle"].where(rows["rle"].notna(), "")
    for column, cells in (("id", "id"), ("class", "class"), (found[0], "rle")):
        not_text = np.array([not isinstance(cell, str) for cell in rows[cells]], dtype=bool)
        fault = describe_rows(rows, not_text, f"whose {column} is not text")
        if fault:
            raise error(f"{name} has {fault}: read the table with dtype=str")
    return rows


def _by_id(
    rows: pd.DataFrame, keys: np.ndarray, ids: np.ndarray, layout: Layout, name: str, error: type[InputError]
) -> tuple[np.ndarray, np.ndarray]:
    """``(id, organ)`` run-length strings, and for each id whether the table has it."""
    repeated = pd.Series(keys).duplicated().to_numpy()
    for faulty, what in (
        (keys < 0, f"with a class that is not one of {', '.join(layout.organs)}"),
        (repeated, "with the id and class of a row above"),
    ):
        fault = describe_rows(rows, faulty, what)
        if fault:
            raise error(f"{name} has {fault}: keep one row for each id and organ")
    rles = np.full((len(ids), len(layout.organs)), "", dtype=object)
    rles.ravel()[keys] = rows["rle"]
    has_row = np.zeros(rles.shape, dtype=bool)
    has_row.ravel()[keys] = True
    _check_complete(has_row, ids, layout, name, error)
    return rles, has_row[:, 0]


def _check_complete(
    has_row: np.ndarray, ids: np.ndarray, layout: Layout, name: str, error: type[InputError]
) -> None:
    i, k = np.nonzero(~has_row & has_row.any(axis=1, keepdims=True))
    if i.size:
        raise error(
            f"{name} lacks {i.size} rows of ids that it has other rows of; the first is {layout.organs[k[0]]} "
            f"of {ids[i[0]]}: every id needs a row for each of {', '.join(layout.organs)}"
        )


def _check_ids(ids: np.ndarray, in_true: np.ndarray, in_pred: np.ndarray, only_common: bool) -> None:
    missing, extra = ids[in_true & ~in_pred], ids[in_pred & ~in_true]
    if only_common and not (in_true & in_pred).any():
        raise SubmissionError(
            f"no id of the prediction's {in_pred.sum()} is among the truth's {in_true.sum()}: "
            "score it against the truth of the same slices"
        )
    if missing.size and not only_common:
        raise SubmissionError(
            f"the prediction lacks {missing.size} of the truth's {in_true.sum()} ids; the first is {missing[0]}: "
            "predict every slice, or score the ids that both tables have (only_common)"
        )
    if extra.size and not only_common:
        raise SubmissionError(
            f"the prediction has {extra.size} ids that the truth lacks; the first is {extra[0]}: "
            "leave them out, or score the ids that both tables have (only_common)"
        )


def _slices_by_scan(ids: np.ndarray, in_true: np.ndarray, sizes: Sizes) -> dict[str, np.ndarray]:
    """Indices into ``ids`` of each scan's slices in the truth, by slice number."""
    known = _places_by_id(sizes)
    scans: dict[str, list[tuple[int, int]]] = {}
    for i in np.flatnonzero(in_true):
        scan, number = known.get(ids[i]) or _parse_place(ids[i])
        scans.setdefault(scan, []).append((number, i))
    return {scan: np.array([i for _, i in sorted(slices)]) for scan, slices in scans.items()}


def _places_by_id(sizes: Sizes) -> dict[str, tuple[str, int]]:
    """Scan and slice number of each id, where ``sizes`` is an index that says so."""
    if not isinstance(sizes, pd.DataFrame) or not {"id", "scan", "slice"} <= set(sizes.columns):
        return {}
    return dict(zip(sizes["id"], zip(sizes["scan"], sizes["slice"], strict=True), strict=True))


def _parse_place(slice_id: str) -> tuple[str, int]:
    scan, separator, number = slice_id.rpartition("_slice_")
    if not (separator and number.isascii() and number.isdigit()):
        raise DatasetError(
            f"the truth has the id {slice_id!r}, expected one such as case123_day20_slice_0065, or sizes that are an "
            "index and know its scan"
        )
    return scan, int(number)


def _sizes_by_id(sizes: Sizes) -> Mapping[str, tuple[int, int]]:
    if not isinstance(sizes, pd.DataFrame):
        return sizes
    if not {"id", "height", "width"} <= set(sizes.columns):
        raise DatasetError(
            f"the sizes have the columns {', '.join(map(str, sizes.columns[:10]))}, "
            "expected id, height, width, as an index has them"
        )
    return dict(zip(sizes["id"], zip(sizes["height"], sizes["width"], strict=True), strict=True))


def _size_of_scan(scan: str, ids: Sequence[str], sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    unknown = [slice_id for slice_id in ids if slice_id not in sizes]
    if unknown:
        raise DatasetError(
            f"the sizes lack {len(unknown)} slices of {scan}; the first is {unknown[0]}: "
            "pass the index of the folder that the truth belongs to"
        )
    try:
        ((height, width),) = {tuple(map(int, sizes[slice_id])) for slice_id in ids}
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        found = list(dict.fromkeys(str(sizes[slice_id]) for slice_id in ids))
        raise DatasetError(
            f"the sizes of {scan}'s slices are {', '.join(found[:3])}, expected one (height, width)"
        )
    return height, width
