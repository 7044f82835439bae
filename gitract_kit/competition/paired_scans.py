"""The rows of a truth and a prediction side by side, scan by scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    keys_true, keys_pred = row_keys([rows_true, rows_pred], layout)
    ids = pd.unique(
        np.concatenate([rows_true["id"].to_numpy(dtype=object), rows_pred["id"].to_numpy(dtype=object)])
    )
    rles_true = _grid(rows_true, keys_true, ids, layout, "the truth", DatasetError)
    rles_pred = _grid(rows_pred, keys_pred, ids, layout, "the prediction", SubmissionError)
    in_true, in_pred = (np.not_equal(rles[:, 0], None) for rles in (rles_true, rles_pred))
    if not only_common:
        _check_same_ids(ids, in_true, in_pred)
    if not (in_true & in_pred).any():
        raise SubmissionError(
            f"no id of the prediction's {in_pred.sum()} is among the truth's {in_true.sum()}: "
            "score it against the truth of the same slices"
        )
    scans = _split_scans(ids, in_true, in_pred, rles_true, rles_pred, _SliceSizes(sizes))
    return PairedScans(list(scans), int((in_true & ~in_pred).sum()), int((in_pred & ~in_true).sum()))


def _rows(
    table: pd.DataFrame, name: str, mask_columns: Sequence[str], error: type[InputError]
) -> pd.DataFrame:
    """``id, class, rle`` of a table; a missing mask is ""."""
    found = [column for column in mask_columns if column in table.columns]
    if not found or not {"id", "class"} <= set(table.columns):
        raise error(
            f"{name} has the columns {', '.join(map(str, table.columns[:10]))}, "
            f"expected id, class, {mask_columns[0]}"
        )
    rows = pd.DataFrame({"id": table["id"], "class": table["class"], "rle": table[found[0]]})
    rows = rows.astype(object).reset_index(drop=True)
    rows["rle"] = rows["rle"].where(rows["rle"].notna(), "")
    for column in ("id", "class"):
        not_text = np.array([not isinstance(cell, str) for cell in rows[column]], dtype=bool)
        fault = describe_rows(rows, not_text, f"whose {column} is not text")
        if fault:
            raise error(f"{name} has {fault}: read the table with dtype=str")
    return rows


def _grid(
    rows: pd.DataFrame, keys: np.ndarray, ids: np.ndarray, layout: Layout, name: str, error: type[InputError]
) -> np.ndarray:
    """``(id, organ)`` run-length strings, None in the whole row of an id that the table lacks."""
    repeated = pd.Series(keys).duplicated().to_numpy()
    for faulty, what in (
        (keys < 0, f"with a class that is not one of {', '.join(layout.organs)}"),
        (repeated, "with the id and class of a row above"),
    ):
        fault = describe_rows(rows, faulty, what)
        if fault:
            raise error(f"{name} has {fault}: keep one row for each id and organ")
    grid = np.full((len(ids), len(layout.organs)), None, dtype=object)
    grid.ravel()[keys] = rows["rle"]
    has_row = np.not_equal(grid, None)
    i, k = np.nonzero(~has_row & has_row.any(axis=1, keepdims=True))
    if i.size:
        raise error(
            f"{name} lacks {i.size} rows of ids that it has others of; the first is {layout.organs[k[0]]} "
            f"of {ids[i[0]]}: every id needs a row for each of {', '.join(layout.organs)}"
        )
    return grid


def _check_same_ids(ids: np.ndarray, in_true: np.ndarray, in_pred: np.ndarray) -> None:
    missing, extra = ids[in_true & ~in_pred], ids[in_pred & ~in_true]
    if missing.size:
        raise SubmissionError(
            f"the prediction lacks {missing.size} of the truth's {in_true.sum()} ids; the first is {missing[0]}: "
            "predict every slice, or score the ids that both tables have (only_common)"
        )
    if extra.size:
        raise SubmissionError(
            f"the prediction has {extra.size} ids that the truth has not; the first is {extra[0]}: "
            "leave them out, or score the ids that both tables have (only_common)"
        )


def _split_scans(
    ids: np.ndarray,
    in_true: np.ndarray,
    in_pred: np.ndarray,
    rles_true: np.ndarray,
    rles_pred: np.ndarray,
    sizes: _SliceSizes,
) -> Iterator[ScanRows]:
    for name, members in _slices_by_scan(ids, in_true).items():
        z = np.flatnonzero(in_pred[members])
        if z.size:
            scored = members[z]
            height, width = sizes.of_scan(name, ids[scored])
            extent = (len(members), height, width)
            yield ScanRows(name, extent, list(ids[scored]), z, rles_true[scored], rles_pred[scored])


def _slices_by_scan(ids: np.ndarray, in_true: np.ndarray) -> dict[str, np.ndarray]:
    """Indices into ``ids`` of each scan's slices in the truth, by slice number."""
    scans: dict[str, list[tuple[int, int]]] = {}
    for i in np.flatnonzero(in_true):
        scan, separator, number = ids[i].rpartition("_slice_")
        if not (separator and number.isascii() and number.isdigit()):
            raise DatasetError(
                f"the truth has the id {ids[i]!r}, expected one such as case123_day20_slice_0065"
            )
        scans.setdefault(scan, []).append((int(number), i))
    return {scan: np.array([i for _, i in sorted(slices)]) for scan, slices in scans.items()}


class _SliceSizes:
    """Height and width by id, out of a mapping or an index."""

    def __init__(self, sizes: Sizes) -> None:
        if isinstance(sizes, pd.DataFrame):
            if not {"id", "height", "width"} <= set(sizes.columns):
                raise DatasetError(
                    f"the sizes have the columns {', '.join(map(str, sizes.columns[:10]))}, "
                    "expected id, height, width, as an index has them"
                )
            sizes = dict(zip(sizes["id"], zip(sizes["height"], sizes["width"], strict=True), strict=True))
        self._sizes = sizes

    def of_scan(self, scan: str, ids: Sequence[str]) -> tuple[int, int]:
        unknown = [slice_id for slice_id in ids if slice_id not in self._sizes]
        if unknown:
            raise DatasetError(
                f"the sizes lack {len(unknown)} slices of {scan}; the first is {unknown[0]}: "
                "pass the index of the folder that the truth belongs to"
            )
        shapes = {tuple(map(int, self._sizes[slice_id])) for slice_id in ids}
        if len(shapes) > 1 or min(min(shapes)) < 1:
            raise DatasetError(
                f"the slices of {scan} have the sizes {sorted(shapes)}, expected one (height, width)"
            )
        return shapes.pop()
