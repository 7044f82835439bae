"""The competition's tables (``train.csv``, ``solution.csv``, submissions): one reader, one way to name a row.

Rows are counted from 1 below the header. Every cell is text: an empty cell is "", and the word "nan" stays
the word "nan".
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gitract_kit.competition.layout import UW_MADISON, Layout
from gitract_kit.competition.names import SliceName
from gitract_kit.errors import DatasetError, InputError

__all__ = ["describe_rows", "read_bytes", "read_labels", "read_rows", "row_keys"]

LABEL_COLUMNS = ("id", "class", "segmentation")


def read_labels(csv_path: str | Path, layout: Layout = UW_MADISON) -> pd.DataFrame:
    """Truth of a ``train.csv`` or ``solution.csv``: one row an id, in the file's order.

    Columns: ``id`` and one text column an organ of ``layout`` (run-length strings, "" for an empty mask;
    not decoded here). A BOM, Windows line ends, columns in another order and further columns are read over.
    :class:`DatasetError` for a file that is not such a table, an id that is not a slice's, an unknown class,
    a duplicate row, and an id that lacks an organ's row; it names the first row and counts them.
    """
    rows = read_rows(csv_path, LABEL_COLUMNS, DatasetError)[list(LABEL_COLUMNS)]
    n_organs = len(layout.organs)
    (keys,) = row_keys([rows], layout)
    _refuse(csv_path, rows, keys < 0, f"with a class that is not one of {', '.join(layout.organs)}")
    _refuse(csv_path, rows, pd.Series(keys).duplicated(), "with the id and class of a row above")
    ids = pd.unique(rows["id"])
    _check_ids(csv_path, ids)
    wide = np.full(len(ids) * n_organs, None, dtype=object)
    wide[keys] = rows["segmentation"]
    wide = wide.reshape(len(ids), n_organs)
    _refuse_missing(csv_path, ids, wide, layout)
    return pd.DataFrame({"id": ids, **dict(zip(layout.organs, wide.T, strict=True))}).astype(str)


def read_rows(path: str | Path, columns: Sequence[str], error: type[InputError]) -> pd.DataFrame:
    """Every row and column of a CSV as text, the columns in the file's order; ``columns`` are among them.

    Faults are raised as ``error`` and name the file.
    """
    cells = _read_cells(path, columns, error)
    header = cells.iloc[0].tolist()
    if not set(columns) <= set(header) or len(set(header)) < len(header):
        found = ", ".join(_shown(name) for name in header[:10])
        raise error(f"{path}: found the columns {found}, expected {', '.join(columns)} in its first line")
    rows = cells.iloc[1:].reset_index(drop=True)
    rows.columns = header
    return rows


def read_bytes(path: str | Path, error: type[InputError]) -> bytes:
    """The content of a file; where it cannot be read, ``error`` says why."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as fault:
        raise error(f"{path} cannot be read ({fault}): give the path of a CSV file") from fault


def row_keys(tables: Sequence[pd.DataFrame], layout: Layout) -> list[np.ndarray]:
    """One int64 a row for each table, equal exactly where id and class are; -1 for an unknown class.

    Ids are numbered as they first appear, so that ``key // len(layout.organs)`` counts them from 0.
    """
    ids = pd.factorize(np.concatenate([table["id"].to_numpy(dtype=object) for table in tables]))[0]
    organs = np.concatenate([pd.Index(layout.organs).get_indexer(table["class"]) for table in tables])
    keys = np.where(organs < 0, -1, ids * len(layout.organs) + organs)
    return np.split(keys, np.cumsum([len(table) for table in tables])[:-1])


def describe_rows(rows: pd.DataFrame, faulty: np.ndarray | pd.Series, what: str) -> str | None:
    """'3 rows WHAT; the first is row 7 (id, class)'; None where no row is faulty."""
    positions = np.flatnonzero(faulty)
    if not positions.size:
        return None
    first = rows.iloc[positions[0]]
    row = f"row {positions[0] + 1} ({_shown(first['id'])}, {_shown(first['class'])})"
    return f"{positions.size} row{'s' if positions.size > 1 else ''} {what}; the first is {row}"


def _refuse(path: str | Path, rows: pd.DataFrame, faulty: np.ndarray | pd.Series, what: str) -> None:
    fault = describe_rows(rows, faulty, what)
    if fault:
        raise DatasetError(f"{path}: {fault}; compare it with the competition's own file")


def _check_ids(path: str | Path, ids: np.ndarray) -> None:
    for slice_id in ids:
        try:
            SliceName.parse(slice_id)
        except DatasetError as fault:
            raise DatasetError(f"{path}: {fault}; compare it with the competition's own file") from fault


def _refuse_missing(path: str | Path, ids: np.ndarray, wide: np.ndarray, layout: Layout) -> None:
    rows, organs = np.nonzero(pd.isna(wide))
    if rows.size:
        raise DatasetError(
            f"{path}: rows missing: {rows.size}; the first is {layout.organs[organs[0]]} of {ids[rows[0]]}: "
            f"every id needs a row for each of {', '.join(layout.organs)}"
        )


def _read_cells(path: str | Path, columns: Sequence[str], error: type[InputError]) -> pd.DataFrame:
    content = read_bytes(path, error)
    try:
        # from memory: pandas would take a URL, or unpack an archive, where a path is meant
        return pd.read_csv(
            io.BytesIO(content), header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except pd.errors.EmptyDataError as fault:
        raise error(f"{path} is empty: expected a first line {','.join(columns)}") from fault
    except (pd.errors.ParserError, UnicodeDecodeError) as fault:
        reason = str(fault).strip()
        raise error(f"{path} is not a CSV text in UTF-8 ({reason}): expected {','.join(columns)}") from fault


def _shown(cell: object) -> str:
    """A cell as a message can hold it: on one line and not too long."""
    text = str(cell)
    shown = text if text.isprintable() and text else repr(text)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
