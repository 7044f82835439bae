"""Which fold holds which case out: made once, written, and read from then on."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from gitract_kit.competition.layout import UW_MADISON, Layout
from gitract_kit.competition.names import natural_key
from gitract_kit.competition.tables import read_rows
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.files import atomic_path

__all__ = ["assign_folds", "load_folds", "load_or_assign_folds", "save_folds"]

_COLUMNS = ("case", "fold")


def assign_folds(
    index: pd.DataFrame, n_folds: int = 5, seed: int = 0, layout: Layout = UW_MADISON
) -> pd.DataFrame:
    """The fold that holds each case out: columns ``case`` and ``fold`` (from 0), one row a case of the index.

    A case's days look alike, so a case is never split (public write-ups: a split that does not group by case
    leaks). Folds are balanced by which organs their slices hold, with scikit-learn's StratifiedGroupKFold.
    The same index and seed give the same folds. :class:`SettingsError` for fewer than 2 folds or more folds
    than cases.
    """
    cases = index["case"].unique()
    if not 2 <= n_folds <= len(cases):
        raise SettingsError(
            f"{n_folds} folds of {len(cases)} cases: expected 2 to {len(cases)} folds, as a case is held out "
            "whole; change the number of folds or add cases"
        )
    held = (index[list(layout.organs)] != "").to_numpy() @ (1 << np.arange(len(layout.organs)))
    # scikit-learn warns of, or refuses, a combination rarer than there are folds; copies of every slice
    # leave the shares as they are
    copies = -(-n_folds // np.unique(held, return_counts=True)[1].min())
    groups = np.tile(index["case"].to_numpy(dtype=object), copies)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    splits = splitter.split(groups, np.tile(held, copies), groups)
    fold_of = {case: fold for fold, (_, rows) in enumerate(splits) for case in groups[rows]}
    _fill_empty_folds(fold_of, n_folds)
    return pd.DataFrame({"case": cases, "fold": [fold_of[case] for case in cases]})


def _fill_empty_folds(fold_of: dict[str, int], n_folds: int) -> None:
    """Give each fold that the splitter left without a case, as it may where there are few, one of the fullest fold."""
    for fold in sorted(set(range(n_folds)) - set(fold_of.values())):
        fullest = Counter(fold_of.values()).most_common(1)[0][0]
        fold_of[next(case for case, its_fold in fold_of.items() if its_fold == fullest)] = fold


def save_folds(folds: pd.DataFrame, path: str | Path) -> None:
    """Write ``case,fold`` as CSV, whole or not at all."""
    with atomic_path(path) as temporary:
        folds.to_csv(temporary, index=False, columns=list(_COLUMNS), lineterminator="\n")


def load_folds(path: str | Path) -> pd.DataFrame:
    """Folds that :func:`save_folds` wrote: columns ``case`` and ``fold`` (int), in the file's order.

    :class:`DatasetError` for other columns, a case twice, a fold that is no number, and fold numbers with a
    gap below the highest.
    """
    rows = read_rows(path, _COLUMNS, DatasetError)
    if tuple(rows.columns) != _COLUMNS:
        raise DatasetError(
            f"{path} has the columns {', '.join(rows.columns)}, expected {', '.join(_COLUMNS)}"
        )
    for number, (case, fold) in enumerate(rows.itertuples(index=False), start=1):
        _check_row(f"{path}: row {number}", case, fold)
    if rows["case"].duplicated().any():
        twice = rows.loc[rows["case"].duplicated(), "case"].iloc[0]
        raise DatasetError(f"{path}: {twice} stands in it twice: a case belongs to one fold")
    folds = rows.astype({"fold": int})
    absent = set(range(folds["fold"].max() + 1 if len(folds) else 1)) - set(folds["fold"])
    if absent:
        raise DatasetError(
            f"{path}: fold {min(absent)} holds no case: number the folds from 0, without a gap"
        )
    return folds


def load_or_assign_folds(
    index: pd.DataFrame,
    path: str | Path,
    n_folds: int = 5,
    seed: int = 0,
    layout: Layout = UW_MADISON,
) -> pd.DataFrame:
    """The folds in ``path`` where that file is there; otherwise new ones, written to it.

    Folds that are there win over ``n_folds`` and ``seed``: scores are comparable only within one split. A
    :class:`DatasetError` where they are of other cases than the index.
    """
    if not Path(path).exists():
        folds = assign_folds(index, n_folds, seed, layout)
        save_folds(folds, path)
        return folds
    folds = load_folds(path)
    odd = sorted(set(folds["case"]) ^ set(index["case"]), key=natural_key)
    if odd:
        held = "the folds alone" if odd[0] in set(folds["case"]) else "the data alone"
        raise DatasetError(
            f"{path} was made of other data: {len(odd)} cases differ, the first is {odd[0]}, in {held}; use "
            "another work folder, or delete the file and train every fold anew"
        )
    return folds


def _check_row(where: str, case: str, fold: str) -> None:
    if not case:
        raise DatasetError(f"{where}: holds no case; mend it, or delete the file and train every fold anew")
    if not re.fullmatch("0|[1-9][0-9]{0,3}", fold):
        raise DatasetError(f"{where}: the fold of {case} is {fold!r:.40}, expected a whole number from 0")
