"""``submission.csv``: read, checked against the sample, and written in the sample's rows and order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gitract_kit.competition.layout import UW_MADISON, Layout
from gitract_kit.competition.rle import check_rle
from gitract_kit.competition.tables import describe_rows, read_bytes, read_rows, row_keys
from gitract_kit.errors import DatasetError, InputError, RLEError, SettingsError, SubmissionError
from gitract_kit.files import atomic_path

__all__ = ["CheckReport", "check_submission", "read_submission", "write_fallback", "write_submission"]

COLUMNS = ("id", "class", "predicted")
# where a slice's size is not known: more pixels than any mask has, so that only the grammar is checked
_UNKNOWN_SIZE = 10**12
_MISSING_WORDS = ("nan", "none", "null", "na", "n/a", "<na>")

Table = pd.DataFrame | str | Path
Sizes = Mapping[str, tuple[int, int]] | pd.DataFrame


@dataclass(frozen=True)
class CheckReport:
    """What a submission that passed the check holds."""

    rows: int
    """Rows, as many as the sample has."""
    slices: int
    """Ids."""
    masks: int
    """Rows whose mask is not empty."""
    sized_rows: int
    """Rows whose runs were held against their slice's size; of the others only the grammar was checked."""

    def __str__(self) -> str:
        held = "all" if self.sized_rows == self.rows else f"{self.sized_rows:,}"
        return (
            f"{self.rows:,} rows of {self.slices:,} slices, {self.masks:,} with a mask; "
            f"{held} held against the slice's size"
        )


def read_submission(path: str | Path, layout: Layout = UW_MADISON) -> pd.DataFrame:
    """Rows of a submission, in the file's order: ``id``, ``class``, ``predicted``, all text.

    "" is an empty mask. A BOM, Windows line ends and columns in another order are read over, which
    :func:`check_submission` reports. :class:`SubmissionError` for a file that is no such table and for rows
    with a class that is not one of ``layout.organs`` or that repeat another's id and class.
    """
    rows = _read(path, SubmissionError)
    faults = _key_faults(rows, row_keys([rows], layout)[0], layout)
    _raise_faults(str(path), faults, SubmissionError)
    return rows


def check_submission(
    submission: Table, sample: Table, sizes: Sizes | None = None, layout: Layout = UW_MADISON
) -> CheckReport:
    """A :class:`CheckReport` where Kaggle would take the submission; a :class:`SubmissionError` otherwise.

    ``submission`` and ``sample`` are paths or tables with ``id, class, predicted``. The error has a sentence
    a fault, with the count and the first row (from 1 below the header): a BOM, Windows line ends, columns,
    cells that are not text (NaN), unknown classes, duplicate, extra and missing rows, an order other than
    the sample's, and runs that do not decode or leave the slice. ``sizes`` maps an id to ``(height, width)``
    in pixels, or is an index; runs of ids it lacks are checked for their grammar alone. Faults of the sample
    itself are a :class:`DatasetError`.
    """
    name = "the submission" if isinstance(submission, pd.DataFrame) else str(submission)
    wanted = _sample_rows(sample, layout)
    faults = [] if isinstance(submission, pd.DataFrame) else list(_form_faults(submission))
    rows = _rows(submission, SubmissionError)
    pixels = _pixels(rows["id"], sizes)
    faults += [*_row_faults(rows, wanted, layout), *_rle_faults(rows, pixels)]
    _raise_faults(name, faults, SubmissionError)
    masks = int((rows["predicted"] != "").sum())
    return CheckReport(len(rows), rows["id"].nunique(), masks, int((pixels < _UNKNOWN_SIZE).sum()))


def write_submission(
    predictions: Mapping[str, Sequence[str]] | pd.DataFrame,
    sample: Table,
    path: str | Path,
    *,
    missing: str = "error",
    sizes: Sizes | None = None,
    layout: Layout = UW_MADISON,
) -> None:
    """Write ``predictions`` to ``path`` as exactly the sample's rows in the sample's order, whole or not at all.

    ``predictions`` maps an id to its run-length strings in the order of ``layout.organs``, or is a table
    ``id, class, predicted``. :class:`SubmissionError` for a prediction that the sample has no row for, a row
    of the sample without a prediction (``missing="empty"`` makes it an empty mask) and runs that do not
    decode or, where ``sizes`` tells (see :func:`check_submission`), leave their slice.
    The same predictions give the same bytes: comma, ``\\n``, UTF-8 without a BOM.
    """
    if missing not in ("error", "empty"):
        raise SettingsError(f"missing is {missing!r}, expected 'error' or 'empty'")
    wanted = _sample_rows(sample, layout)
    given = _rows(_as_table(predictions, layout), SubmissionError)
    keys, wanted_keys = row_keys([given, wanted], layout)
    faults = [*_key_faults(given, keys, layout), *_rle_faults(given, _pixels(given["id"], sizes))]
    faults += _extra_rows(given, (keys >= 0) & ~np.isin(keys, wanted_keys))
    if missing == "error":
        faults += _missing_rows(wanted, ~np.isin(wanted_keys, keys))
    _raise_faults("the predictions", faults, SubmissionError)
    by_key = pd.Series(given["predicted"].to_numpy(dtype=object), index=keys)
    _write(wanted.assign(predicted=by_key.reindex(wanted_keys, fill_value="").to_numpy()), path)


def write_fallback(sample: Table, path: str | Path, layout: Layout = UW_MADISON) -> None:
    """Write the sample's rows to ``path``, every mask empty: what stands there until there is better."""
    _write(_sample_rows(sample, layout).assign(predicted=""), path)


def _write(rows: pd.DataFrame, path: str | Path) -> None:
    with atomic_path(path) as temporary:
        rows.to_csv(temporary, index=False, columns=list(COLUMNS), lineterminator="\n", encoding="utf-8")


def _as_table(predictions: Mapping[str, Sequence[str]] | pd.DataFrame, layout: Layout) -> pd.DataFrame:
    if isinstance(predictions, pd.DataFrame):
        return predictions
    n_organs = len(layout.organs)
    for slice_id, rles in predictions.items():
        if isinstance(rles, str) or not isinstance(rles, Sequence) or len(rles) != n_organs:
            raise SubmissionError(
                f"the predictions of {slice_id} are {rles!r:.80}, expected a sequence of {n_organs} run-length "
                f"strings: {', '.join(layout.organs)}"
            )
    return pd.DataFrame(
        {
            "id": np.repeat(np.array(list(predictions), dtype=object), n_organs),
            "class": list(layout.organs) * len(predictions),
            "predicted": np.array([rle for rles in predictions.values() for rle in rles], dtype=object),
        }
    )


def _sample_rows(sample: Table, layout: Layout) -> pd.DataFrame:
    """The sample's id and class, once they are known to be sound."""
    name = "the sample" if isinstance(sample, pd.DataFrame) else str(sample)
    rows = _rows(sample, DatasetError, text=("id", "class"))
    _raise_faults(name, _key_faults(rows, row_keys([rows], layout)[0], layout), DatasetError)
    return rows[["id", "class"]]


def _rows(table: Table, error: type[InputError], text: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """``id, class, predicted`` of a table or a file; the cells of the columns ``text`` are text."""
    if not isinstance(table, pd.DataFrame):
        return _read(table, error)
    _check_columns("the table", list(table.columns), error)
    rows = table[list(COLUMNS)].astype(object).reset_index(drop=True)
    for column in text:
        is_text = [isinstance(cell, str) and cell.isprintable() for cell in rows[column]]
        not_text = ~np.array(is_text, dtype=bool)
        fault = describe_rows(rows, not_text, f"whose {column} is not text (NaN, None, a number)")
        if fault:
            raise error(f"{fault}: an empty mask is an empty string, as read_submission and fillna('') give")
    return rows


def _read(path: str | Path, error: type[InputError]) -> pd.DataFrame:
    rows = read_rows(path, COLUMNS, error)
    _check_columns(str(path), list(rows.columns), error)
    return rows[list(COLUMNS)]


def _check_columns(name: str, found: list[object], error: type[InputError]) -> None:
    if sorted(map(str, found)) != sorted(COLUMNS):
        listed = ", ".join(map(str, found[:10]))
        raise error(f"{name} has the columns {listed}, expected {', '.join(COLUMNS)} and no others")


def _raise_faults(name: str, faults: Sequence[str], error: type[InputError]) -> None:
    if faults:
        raise error(f"{name}: " + "\n".join(faults))


def _form_faults(path: str | Path) -> Iterator[str]:
    """What :func:`read_submission` reads over and Kaggle may not."""
    content = read_bytes(path, SubmissionError)
    if content.startswith(b"\xef\xbb\xbf"):
        yield "1 byte-order mark, in front of the header in line 1: save the file as UTF-8 without a BOM"
    returns = content.count(b"\r")
    if returns:
        line = content[: content.index(b"\r")].count(b"\n") + 1
        yield f"{returns} line ends of Windows; the first is in line {line}: end lines with \\n alone"
    header = re.split(rb"[\r\n]", content.removeprefix(b"\xef\xbb\xbf"), maxsplit=1)[0]
    columns = header.decode("utf-8", "replace").replace('"', "").split(",")
    moved = sum(found != wanted for found, wanted in zip(columns, COLUMNS, strict=False))
    if moved:
        yield f"{moved} columns out of order: line 1 is {','.join(columns)}, expected {','.join(COLUMNS)}"


def _row_faults(rows: pd.DataFrame, wanted: pd.DataFrame, layout: Layout) -> list[str]:
    keys, wanted_keys = row_keys([rows, wanted], layout)
    faults = _key_faults(rows, keys, layout)
    faults += _extra_rows(rows, (keys >= 0) & ~np.isin(keys, wanted_keys))
    faults += _missing_rows(wanted, ~np.isin(wanted_keys, keys))
    if not faults:
        moved = describe_rows(rows, keys != wanted_keys, "not in the sample's order")
        faults += [f"{moved}: write them in the order of the sample's rows"] if moved else []
    return faults


def _key_faults(rows: pd.DataFrame, keys: np.ndarray, layout: Layout) -> list[str]:
    unknown = describe_rows(rows, keys < 0, "with an unknown class")
    repeated = pd.Series(keys).duplicated().to_numpy() & (keys >= 0)
    duplicate = describe_rows(rows, repeated, "with the id and class of a row above")
    steps = (f"expected {', '.join(layout.organs)}", "keep one row for each id and class")
    return [f"{fault}: {step}" for fault, step in zip((unknown, duplicate), steps, strict=True) if fault]


def _extra_rows(rows: pd.DataFrame, extra: np.ndarray) -> list[str]:
    fault = describe_rows(rows, extra, "that the sample does not have")
    return [f"{fault}: leave them out, or give the sample that belongs to this test"] if fault else []


def _missing_rows(wanted: pd.DataFrame, absent: np.ndarray) -> list[str]:
    fault = describe_rows(wanted, absent, "missing")
    return [f"{fault} of the sample: every row of the sample needs one, empty or not"] if fault else []


def _rle_faults(rows: pd.DataFrame, pixels: np.ndarray) -> list[str]:
    predicted = rows["predicted"].to_numpy(dtype=object)
    faults = {}
    for position in np.flatnonzero(predicted != ""):
        try:
            check_rle(predicted[position], int(pixels[position]))
        except RLEError as fault:
            faults[position] = fault
    if not faults:
        return []
    first = next(iter(faults))
    described = describe_rows(rows, np.isin(np.arange(len(rows)), list(faults)), "with an unreadable mask")
    if predicted[first].strip().lower() in _MISSING_WORDS:
        return [f"{described}: its text is '{predicted[first]}', and an empty mask is an empty cell"]
    return [f"{described}: {faults[first]}"]


def _pixels(ids: pd.Series, sizes: Sizes | None) -> np.ndarray:
    """Pixels of each row's slice, or a bound above any."""
    if isinstance(sizes, pd.DataFrame):
        known = dict(zip(sizes["id"], sizes["height"] * sizes["width"], strict=True))
    else:
        known = {slice_id: height * width for slice_id, (height, width) in (sizes or {}).items()}
    return ids.map(known).fillna(_UNKNOWN_SIZE).to_numpy(dtype=np.int64)
