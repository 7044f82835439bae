"""From a competition folder to a work folder: the index, the folds and the cache of scans, made once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import UW_MADISON
from gitract_kit.data.folds import load_or_assign_folds
from gitract_kit.data.scans import cache_scans
from gitract_kit.errors import DatasetError
from gitract_kit.files import atomic_path, write_text_atomic

__all__ = ["Prepared", "load_prepared", "prepare"]

_INDEX, _FOLDS, _SCANS, _ABOUT = "index.csv", "folds.csv", "scans", "prepared.json"


@dataclass(frozen=True)
class Prepared:
    """A work folder, read."""

    index: pd.DataFrame
    """One row a slice as `build_index` returns it, and a column ``fold``."""
    scan_folder: Path
    """Where the cached scans are."""
    organs: tuple[str, ...]
    """Class names, in order."""
    layout: str
    """The layout's name."""
    fingerprint: str
    """sha256 of the ids, sizes, labels and folds: the same for the same data."""

    @property
    def folds(self) -> list[int]:
        """The fold numbers, ascending."""
        return sorted(self.index["fold"].unique().tolist())


def prepare(
    root: str | Path, work: str | Path, *, n_folds: int = 5, seed: int = 0, progress=None
) -> Prepared:
    """Build ``work`` from the competition folder ``root`` and return it read.

    Folds that are already there are kept, and so are cached scans; ``progress`` may wrap the iterator of scan names
    (say, tqdm). The file that `load_prepared` looks for is written last.
    """
    work = Path(work)
    layout = UW_MADISON
    index = build_index(root, "train", layout=layout)
    folds = load_or_assign_folds(index, work / _FOLDS, n_folds=n_folds, seed=seed)
    cached: Iterable[str] = cache_scans(index, work / _SCANS)
    for _ in progress(cached, total=index["scan"].nunique()) if progress else cached:
        pass
    with atomic_path(work / _INDEX) as temporary:
        index.to_csv(temporary, index=False)
    about = {"layout": layout.name, "organs": list(layout.organs), "fingerprint": _fingerprint(index, folds)}
    write_text_atomic(work / _ABOUT, json.dumps(about, indent=2) + "\n")
    return load_prepared(work)


def load_prepared(work: str | Path) -> Prepared:
    """Return the work folder ``work`` that `prepare` made; a missing or incomplete one is a `DatasetError`."""
    work = Path(work)
    if not (work / _ABOUT).is_file():
        raise DatasetError(f"{work} holds no {_ABOUT}; make it with `gitract prepare ROOT -o {work}`")
    about = json.loads((work / _ABOUT).read_text(encoding="utf-8"))
    organs = tuple(about["organs"])
    text = dict.fromkeys(("id", "case", "scan", "path", *organs), str)
    index = pd.read_csv(work / _INDEX, dtype=text, keep_default_na=False)
    folds = load_or_assign_folds(index, work / _FOLDS)
    index["fold"] = index["case"].map(folds.set_index("case")["fold"]).astype(int)
    return Prepared(index, work / _SCANS, organs, about["layout"], about["fingerprint"])


def _fingerprint(index: pd.DataFrame, folds: pd.DataFrame) -> str:
    # the path is left out: the same data mounted elsewhere are the same data
    digest = hashlib.sha256()
    for table in (index.drop(columns="path"), folds):
        digest.update(table.to_csv(index=False).encode("utf-8"))
    return digest.hexdigest()
