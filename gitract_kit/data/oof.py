"""Out-of-fold probabilities: what a run's networks say of the scans that they never saw.

RUN/fold_K/model.json       the fold's settings and the fingerprint of its data
RUN/fold_K/oof/index.csv    the held-out slices and what is drawn on them
RUN/fold_K/oof/SCAN.npz     ``probabilities`` (z, organ, y, x) uint8, 255 is 1
RUN/prediction.json         the settings that `gitract evaluate` chose by them
"""

from __future__ import annotations

import dataclasses
import json
import threading
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib import format as npy_format

from gitract_kit.competition.rle import rle_decode_batch
from gitract_kit.data.scans import Scan
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.settings import PredictionSettings, settings_from_dict

__all__ = [
    "PREDICTION",
    "HeldOutScan",
    "RunOof",
    "chosen_prediction",
    "common_folds",
    "ensemble_part",
    "load_oof",
    "load_runs",
    "read_scan",
    "weighted_mean",
]

PREDICTION = "prediction.json"
"""The file of a run folder that holds the settings chosen for it."""

# numpy parses a header as Python, which threads of Python before 3.11.8 must not do at once (CPython gh-106905)
_HEADER = threading.Lock()
_TEXT_COLUMNS = ("id", "case", "scan", "path")
_NUMBER_COLUMNS = ("slice", "height", "width", "spacing_x_mm", "spacing_y_mm")


@dataclass(frozen=True, eq=False)
class RunOof:
    """The held-out scans of a run's folds; their probabilities are read when asked for."""

    folder: Path
    organs: tuple[str, ...]
    """Class names, in the order of the probabilities."""
    fingerprint: str
    """Of the data and the folds: scores are comparable within one."""
    prediction: PredictionSettings
    """The run's own settings: those of its lowest fold, which are also a bundle's."""
    index: pd.DataFrame
    """One row a held-out slice: the prepared index's columns, ``fold`` among them."""
    unfinished: tuple[int, ...] = ()
    """Folds that are there without held-out probabilities: their training has not ended."""
    abouts: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """What the model.json of each of `folds` says."""

    @property
    def folds(self) -> list[int]:
        """The folds that have probabilities, ascending."""
        return sorted(int(fold) for fold in self.index["fold"].unique())

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        """Return (z, organ, y, x) uint8 of the scan whose index rows are given; 255 is 1.

        A file that is missing, torn or of another shape than the index says is a `DatasetError`.
        """
        first = rows.iloc[0]
        path = self.folder / f"fold_{first['fold']}" / "oof" / f"{first['scan']}.npz"
        probabilities = _load_npz(path)
        expected = (len(rows), len(self.organs), int(first["height"]), int(first["width"]))
        if probabilities.shape != expected or probabilities.dtype != np.uint8:
            raise DatasetError(
                f"{path}: holds {probabilities.dtype} {probabilities.shape}, expected uint8 {expected} "
                "(z, organ, y, x); train the fold again"
            )
        return probabilities


@dataclass(frozen=True, eq=False)
class HeldOutScan:
    """One scan with its truth and what each of some runs says of it."""

    scan: Scan
    """Its names and spacing; the picture itself is not there, all of it is 0."""
    masks_true: np.ndarray
    """(z, organ, y, x) bool."""
    probabilities: tuple[np.ndarray, ...]
    """(z, organ, y, x) uint8 a run; 255 is 1."""
    gates: tuple[np.ndarray, ...] = ()
    """The same, of the runs that are its gate; none where there is no gate."""

    def mean(self, weights: Sequence[float]) -> np.ndarray:
        """Return the weighted mean of the runs, (z, organ, y, x) float32, 0 to 1."""
        return weighted_mean(self.probabilities, weights)

    def gate_mean(self) -> np.ndarray | None:
        """Return the mean of the gates as `mean` does; None where there is no gate."""
        return weighted_mean(self.gates, [1.0] * len(self.gates)) if self.gates else None


def weighted_mean(probabilities: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Return the weighted mean of uint8 probabilities of one shape as float32, 0 to 1."""
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    if len(probabilities) == 1:
        return probabilities[0].astype(np.float32) / np.float32(255)
    mean = np.zeros(probabilities[0].shape, dtype=np.float32)
    for one, share in zip(probabilities, shares, strict=True):
        if share:
            mean += np.float32(share / 255) * one
    return mean


def load_runs(folders: Sequence[str | Path]) -> list[RunOof]:
    """Return the held-out scans of each run; they share data, folds and organs, or a `SettingsError` says which not."""
    runs = [load_oof(folder) for folder in folders]
    if not runs:
        raise SettingsError("no run was given; give one at least, as `gitract evaluate RUN`")
    seen: set[Path] = set()
    for run in runs:
        if run.folder.resolve() in seen:
            raise SettingsError(f"{run.folder} was given twice; a run counts once in an ensemble")
        seen.add(run.folder.resolve())
        _check_agree(runs[0], run)
    return runs


def load_oof(run: str | Path) -> RunOof:
    """Return the held-out scans of the run folder ``run``.

    A `DatasetError` where no fold has probabilities, a file of a fold is missing or damaged, or the folds are of
    different data.
    """
    run = Path(run)
    trained = {path.parent.name for path in run.glob("fold_*/model.json")}
    # a fold with probabilities whose model.json is missing is damaged, not absent
    scored = {path.parents[1].name for path in run.glob("fold_*/oof/index.csv")}
    numbers = (name.removeprefix("fold_") for name in trained | scored)
    folds = sorted(int(number) for number in numbers if number.isdigit())
    finished = [fold for fold in folds if (run / f"fold_{fold}" / "oof" / "index.csv").is_file()]
    if not finished:
        raise DatasetError(
            f"{run} holds no fold_*/oof/index.csv; give the run folder of `gitract train`, once a fold has ended"
        )
    abouts = [_read_about(run / f"fold_{fold}" / "model.json") for fold in finished]
    _check_one_run(run, finished, abouts)
    settings = settings_from_dict(abouts[0]["settings"])
    tables = [_read_index(run / f"fold_{fold}" / "oof" / "index.csv", settings.organs) for fold in finished]
    index = pd.concat(
        [table.assign(fold=fold) for fold, table in zip(finished, tables, strict=True)], ignore_index=True
    )
    _check_held_out_once(run, index)
    unfinished = tuple(sorted(set(folds) - set(finished)))
    return RunOof(
        run,
        settings.organs,
        abouts[0]["data_fingerprint"],
        settings.prediction,
        index,
        unfinished,
        dict(zip(finished, abouts, strict=True)),
    )


def common_folds(runs: Sequence[RunOof]) -> tuple[list[int], list[int]]:
    """Return the folds that every run has, and those that only some have; no common one is a `SettingsError`."""
    held = [set(run.folds) for run in runs]
    common, some = set.intersection(*held), set.union(*held)
    if not common:
        found = "; ".join(f"{run.folder} has {', '.join(map(str, run.folds))}" for run in runs)
        raise SettingsError(f"the runs share no fold ({found}): an ensemble needs one that all have trained")
    return sorted(common), sorted(some - common)


def read_scan(runs: Sequence[RunOof], rows: pd.DataFrame, gates: Sequence[RunOof] = ()) -> HeldOutScan:
    """Return the scan of the given index rows with its truth and every run's and every gate's probabilities."""
    rows = rows.sort_values("slice", kind="stable")
    first = rows.iloc[0]
    shape = int(first["height"]), int(first["width"])
    masks = [rle_decode_batch(rows[organ], shape) for organ in runs[0].organs]
    scan = Scan(
        name=str(first["scan"]),
        ids=tuple(rows["id"]),
        slice_numbers=rows["slice"].to_numpy(dtype=np.int64),
        # nothing here looks at the picture, and one zero stands for all of its pixels
        volume=np.broadcast_to(np.zeros(1, dtype=np.uint16), (len(rows), *shape)),
        spacing_mm=(float(first["spacing_y_mm"]), float(first["spacing_x_mm"])),
    )
    said, gated = (tuple(run.probabilities(rows) for run in some) for some in (runs, gates))
    return HeldOutScan(scan, np.stack(masks, axis=1), said, gated)


def chosen_prediction(run: str | Path, own: PredictionSettings) -> PredictionSettings:
    """Return ``own`` with what ``RUN/prediction.json`` decides; ``own`` itself where there is no such file.

    A file that is no JSON object of prediction settings is a `SettingsError` that names it.
    """
    path = Path(run) / PREDICTION
    if not path.is_file():
        return own
    try:
        chosen = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(chosen, dict):
            raise SettingsError(f"expected a JSON object, found a {type(chosen).__name__}")
        return _change(own, chosen)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path}: {error}; write it again with `gitract evaluate`, or delete it"
        ) from error


def ensemble_part(
    path: str | Path, run: str | Path, own: PredictionSettings
) -> tuple[float, PredictionSettings]:
    """Return the weight of ``run`` in the ensemble that ``path`` describes, and ``own`` with what was chosen for it.

    ``path`` is the ensemble.json of `gitract evaluate RUN RUN...`. One that is damaged, that tells of other runs, or in
    which ``run`` has no weight is a `SettingsError`.
    """
    path, folder = Path(path), Path(run).resolve()
    try:
        ensemble = json.loads(path.read_text(encoding="utf-8"))
        runs = [Path(one).resolve() for one in ensemble["runs"]]
        weights = [float(weight) for weight in ensemble["weights"]]
        chosen = ensemble.get("chosen", ensemble["own"])["prediction"]
        prediction = _change(own, chosen)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path}: cannot be read as an ensemble ({type(error).__name__}: {error}); give the ensemble.json that "
            "`gitract evaluate RUN RUN...` writes into the first run's folder"
        ) from error
    if folder not in runs:
        raise SettingsError(
            f"{path} tells of {', '.join(map(str, runs))}, and not of {folder}; evaluate the runs together as they lie "
            "now"
        )
    weight = weights[runs.index(folder)]
    if weight == 0:
        raise SettingsError(f"{path} gives {run} no weight: the ensemble is better without it; leave it out")
    return weight, prediction


def _change(own: PredictionSettings, chosen: dict[str, Any]) -> PredictionSettings:
    """``own`` with what ``chosen`` decides, read as strictly as any settings."""
    return settings_from_dict({"prediction": {**dataclasses.asdict(own), **chosen}}).prediction


def _load_npz(path: Path) -> np.ndarray:
    faults = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)
    try:
        with zipfile.ZipFile(path) as archive, archive.open("probabilities.npy") as member:
            with _HEADER:
                npy_format.read_magic(member)
                shape, fortran, dtype = npy_format.read_array_header_1_0(member)
            return np.frombuffer(member.read(), dtype).reshape(shape, order="F" if fortran else "C")
    except faults as error:
        raise DatasetError(
            f"{path}: cannot be read as held-out probabilities ({error}); train the fold again"
        ) from error


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({error}); train the fold again") from error
    missing = [
        key for key in ("settings", "data_fingerprint") if not isinstance(about, dict) or key not in about
    ]
    if missing:
        raise DatasetError(f"{path}: lacks {', '.join(missing)}; train the fold again with this kit")
    return about


def _read_index(path: Path, organs: Sequence[str]) -> pd.DataFrame:
    text = dict.fromkeys((*_TEXT_COLUMNS, *organs), str)
    try:
        index = pd.read_csv(path, dtype=text, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as a table ({error}); train the fold again") from error
    missing = [column for column in (*text, *_NUMBER_COLUMNS) if column not in index]
    if missing:
        raise DatasetError(f"{path}: lacks the columns {', '.join(missing)}; train the fold again")
    if index.empty:
        raise DatasetError(f"{path}: holds no slice; train the fold again")
    return index


def _check_one_run(run: Path, folds: Sequence[int], abouts: Sequence[dict[str, Any]]) -> None:
    for fold, about in zip(folds, abouts, strict=True):
        if about["data_fingerprint"] != abouts[0]["data_fingerprint"]:
            raise DatasetError(
                f"{run}: fold {fold} was trained on other data or folds than fold {folds[0]}; train it again on the "
                "same prepared folder"
            )


def _check_held_out_once(run: Path, index: pd.DataFrame) -> None:
    if index["id"].duplicated().any():
        first = index.loc[index["id"].duplicated(), "id"].iloc[0]
        raise DatasetError(f"{run}: {first} is held out twice; train the folds on one prepared folder")


def _check_agree(first: RunOof, run: RunOof) -> None:
    if run.organs != first.organs:
        raise SettingsError(
            f"{run.folder} predicts {', '.join(run.organs)}, {first.folder} {', '.join(first.organs)}; only runs of "
            "the same organs in the same order are compared"
        )
    if run.fingerprint != first.fingerprint:
        raise SettingsError(
            f"{run.folder} was trained on other data or folds ({run.fingerprint[:12]}) than {first.folder} "
            f"({first.fingerprint[:12]}); only runs of one prepared folder are compared"
        )
