"""Folds that were trained apart, one a kernel, made one bundle.

Each training kernel leaves a run folder of its own fold. Collected into one folder they stand side by side already;
as Kaggle mounts them each is in a mount of its own, ``.../gitract-train-fold-0/run/fold_0``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gitract_kit.data.oof import PREDICTION
from gitract_kit.errors import BundleError
from gitract_kit.shipping.bundle import create_bundle

__all__ = ["bundle_runs", "find_unfinished"]


def bundle_runs(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    folds: Sequence[int] | None = None,
    name: str | None = None,
    role: str = "segment",
    ensemble: str | Path | None = None,
) -> Path:
    """Write the trained folds of all ``runs`` as one bundle, as `create_bundle` does of one run; return ``out``.

    A run is a folder of ``fold_K`` folders, or an output mounted whole that holds one as ``run``. A fold that is in two
    runs, settings chosen for one run and otherwise for another, and an ``ensemble``, which knows its runs by their
    folders, with several of them are a `BundleError`.
    """
    found = [_find_run(Path(run)) for run in runs]
    if len(found) == 1:
        return create_bundle(found[0], out, folds=folds, name=name, role=role, ensemble=ensemble)
    if ensemble is not None:
        raise BundleError(
            f"{ensemble} tells of whole runs, given were {len(found)} folders: make a bundle of each run by itself"
        )
    with tempfile.TemporaryDirectory(prefix="gitract-folds-") as place:
        for link, target in {**_folds_of(found), **_chosen_of(found)}.items():
            (Path(place) / link).symlink_to(target.resolve())
        return create_bundle(place, out, folds=folds, name=name, role=role)


def find_unfinished(runs: Sequence[str | Path], folds: Sequence[int] | None = None) -> list[Path]:
    """Return those of the trained ``folds`` (None: all) whose training has not ended: no held-out probabilities."""
    names = None if folds is None else {f"fold_{fold}" for fold in folds}
    folders = [folder for run in runs for folder in _trained(_find_run(Path(run)))]
    return [
        folder
        for folder in folders
        if (names is None or folder.name in names) and not (folder / "oof" / "index.csv").is_file()
    ]


def _find_run(folder: Path) -> Path:
    for place in (folder, folder / "run"):
        if any(_trained(place)):
            return place
    raise BundleError(
        f"{folder} holds no fold_*/model.json, and no run/fold_*/model.json; give the run folder of `gitract train`, "
        "or the output of a training kernel, once a fold is trained"
    )


def _trained(run: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(run.glob("fold_*/model.json")))


def _folds_of(runs: Sequence[Path]) -> Mapping[str, Path]:
    folds: dict[str, Path] = {}
    for run in runs:
        for folder in _trained(run):
            if folder.name in folds:
                raise BundleError(
                    f"{folder.name} is in {folds[folder.name].parent} and in {run}: a bundle of several runs takes "
                    "each fold once; make a bundle of each, and predict with both"
                )
            folds[folder.name] = folder
    return folds


def _chosen_of(runs: Sequence[Path]) -> Mapping[str, Path]:
    """The settings that `gitract evaluate` chose, where it did: one run's decide for all."""
    chosen = [run / PREDICTION for run in runs if (run / PREDICTION).is_file()]
    if len({path.read_bytes() for path in chosen}) > 1:
        raise BundleError(
            f"{chosen[0]} and {chosen[1]} differ: lay the folds side by side in one folder and choose for all of them "
            "with `gitract evaluate`"
        )
    return {PREDICTION: chosen[0]} if chosen else {}
