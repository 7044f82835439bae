"""From a competition folder to a work folder: the index, the folds and the cache of scans, made once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from gitract_kit.competition.index import build_index, choose_layout
from gitract_kit.competition.layout import UW_MADISON, Layout, layout_of
from gitract_kit.data.folds import load_or_assign_folds
from gitract_kit.data.scans import cache_scans
from gitract_kit.errors import DatasetError
from gitract_kit.files import atomic_path, write_text_atomic
from gitract_kit.settings import Settings

__all__ = ["Prepared", "adapt_settings", "load_prepared", "prepare"]

_INDEX, _FOLDS, _SCANS, _ABOUT = "index.csv", "folds.csv", "scans", "prepared.json"


@dataclass(frozen=True)
class Prepared:
    """A work folder, read."""

    index: pd.DataFrame
    """One row a slice as `build_index` returns it, and a column ``fold``."""
    scan_folder: Path
    """Where the cached scans are."""
    layout: Layout
    """What its files and classes are called."""
    fingerprint: str
    """sha256 of the ids, sizes, labels and folds: the same for the same data."""

    @property
    def organs(self) -> tuple[str, ...]:
        """Class names, in order."""
        return self.layout.organs

    @property
    def folds(self) -> list[int]:
        """The fold numbers, ascending."""
        return sorted(self.index["fold"].unique().tolist())


def prepare(
    root: str | Path,
    work: str | Path,
    *,
    layout: str = UW_MADISON.name,
    classes: Sequence[str] = (),
    n_folds: int = 5,
    seed: int = 0,
    progress=None,
) -> Prepared:
    """Build ``work`` from the competition folder ``root`` and return it read.

    ``layout`` says how the folder is laid out, ``classes`` what its classes are called (`choose_layout`).
    Folds that are already there are kept, and so are cached scans whose pictures were not changed since;
    ``progress`` may wrap the iterator of scan names (say, tqdm). The file that `load_prepared` looks for is written
    last.
    """
    work = Path(work)
    chosen = choose_layout(layout, root, classes)
    index = build_index(root, "train", layout=chosen)
    folds = load_or_assign_folds(index, work / _FOLDS, n_folds=n_folds, seed=seed, layout=chosen)
    cached: Iterable[str] = cache_scans(index, work / _SCANS)
    for _ in progress(cached, total=index["scan"].nunique()) if progress else cached:
        pass
    with atomic_path(work / _INDEX) as temporary:
        index.to_csv(temporary, index=False)
    about = {
        "layout": chosen.name,
        "organs": list(chosen.organs),
        "mask_values": list(chosen.mask_values),
        "fingerprint": _fingerprint(index, folds),
    }
    write_text_atomic(work / _ABOUT, json.dumps(about, indent=2) + "\n")
    return load_prepared(work)


def load_prepared(work: str | Path) -> Prepared:
    """Return the work folder ``work`` that `prepare` made; a missing or incomplete one is a `DatasetError`."""
    work = Path(work)
    if not (work / _ABOUT).is_file():
        raise DatasetError(f"{work} holds no {_ABOUT}; make it with `gitract prepare ROOT -o {work}`")
    about = json.loads((work / _ABOUT).read_text(encoding="utf-8"))
    layout = layout_of(about["layout"], about["organs"], about.get("mask_values", ()))
    text = dict.fromkeys(("id", "case", "scan", "path", *layout.organs), str)
    index = pd.read_csv(work / _INDEX, dtype=text, keep_default_na=False)
    folds = load_or_assign_folds(index, work / _FOLDS, layout=layout)
    index["fold"] = index["case"].map(folds.set_index("case")["fold"]).astype(int)
    return Prepared(index, work / _SCANS, layout, about["fingerprint"])


def adapt_settings(settings: Settings, layout: Layout) -> Settings:
    """Return ``settings`` with what the data decides and no recipe can.

    That is the layout's name, organs and mask values; that classes share no pixel where a mask picture holds one value
    a pixel; and that slices are scaled to fill the network's input where the spacing of their pixels is not known.
    """
    exclusive = settings.prediction.exclusive or bool(layout.mask_values)
    geometry = settings.geometry if layout.spacing_known else replace(settings.geometry, spacing_mm=None)
    return replace(
        settings,
        layout=layout.name,
        organs=layout.organs,
        mask_values=layout.mask_values,
        geometry=geometry,
        prediction=replace(settings.prediction, exclusive=exclusive),
    )


def _fingerprint(index: pd.DataFrame, folds: pd.DataFrame) -> str:
    # the path is left out: the same data mounted elsewhere are the same data
    digest = hashlib.sha256()
    for table in (index.drop(columns="path"), folds):
        digest.update(table.to_csv(index=False).encode("utf-8"))
    return digest.hexdigest()
