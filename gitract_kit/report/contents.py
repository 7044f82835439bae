"""What a report shows, whatever it is about: slices, their true and predicted masks, and how training went."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gitract_kit.competition.index import build_index, read_labels
from gitract_kit.competition.layout import UW_MADISON
from gitract_kit.competition.rle import rle_encode_batch
from gitract_kit.competition.submission import read_submission
from gitract_kit.data.overlay import to_gray
from gitract_kit.data.scans import Scan, decode_scan, intensity_range, load_cached_scan
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.settings import IntensitySettings, Settings, settings_from_dict

__all__ = ["Contents", "read_run", "read_submission_and_truth"]


@dataclass(frozen=True, eq=False)
class Contents:
    """What a report shows."""

    title: str
    facts: Mapping[str, str]
    """What the reader should know of it, by name."""
    organs: tuple[str, ...]
    """Class names, in order."""
    index: pd.DataFrame
    """One row a slice, as `build_index` returns it; with a column ``fold`` where there are folds."""
    truth: pd.DataFrame
    """``id, class, segmentation``."""
    prediction: pd.DataFrame
    """``id, class, predicted``."""
    load_gray: Callable[[pd.DataFrame], np.ndarray]
    """Takes the index rows of a scan, in order, and returns it as (z, y, x) uint8."""
    curves: Mapping[int, pd.DataFrame] = field(default_factory=dict)
    """What training measured, by fold: the rows of ``metrics.csv``."""


def read_run(run: str | Path, work: str | Path | None = None) -> Contents:
    """Return what the run folder ``run`` holds: its held-out scans, with masks at the run's thresholds.

    ``work`` is the prepared folder with the cached scans; None takes the one that the run was trained from. The
    thresholds are those of ``run/prediction.json`` where it is there, and else of the run's settings. A folder
    without held-out probabilities is a `DatasetError`.
    """
    run = Path(run)
    folders = _finished_folds(run)
    about = {fold: _read_json(folder / "model.json") for fold, folder in folders.items()}
    first = next(iter(about.values()))
    settings = settings_from_dict(first["settings"])
    scan_folder = Path(work or first["work"]) / "scans"
    if not scan_folder.is_dir():
        raise DatasetError(f"{scan_folder} is not there: give the folder that `gitract prepare` made")
    thresholds = _thresholds(run, settings)
    indexes = {fold: _read_index(folder, settings.organs) for fold, folder in folders.items()}
    index = pd.concat([rows.assign(fold=fold) for fold, rows in indexes.items()], ignore_index=True)
    predicted = [_predict(folders[fold], rows, thresholds) for fold, rows in indexes.items()]
    return Contents(
        title=f"Run {run.resolve().name}",
        facts=_run_facts(settings, about, thresholds),
        organs=settings.organs,
        index=index,
        truth=_as_rows(index, settings.organs, "segmentation"),
        prediction=_as_rows(pd.concat(predicted), settings.organs, "predicted"),
        load_gray=lambda rows: _gray(load_cached_scan(rows, scan_folder), settings.intensity),
        curves=_read_curves(run),
    )


def read_submission_and_truth(
    submission: str | Path, truth: str | Path, root: str | Path, split: str = "test"
) -> Contents:
    """Return the slices of ``root/split`` that both ``submission`` and ``truth`` (paths of CSV files) have.

    `DatasetError` and `SubmissionError` name what is wrong with a table or the folder.
    """
    index, labels, rows = build_index(root, split), read_labels(truth), read_submission(submission)
    organs = UW_MADISON.organs
    common = index[index["id"].isin(labels["id"]) & index["id"].isin(rows["id"])]
    if common.empty:
        raise DatasetError(
            f"{submission}, {truth} and {root}/{split} have no slice in common: "
            "give the truth of the folder's slices and a submission for them"
        )
    return Contents(
        title=f"Submission {Path(submission).name}",
        facts={
            "Masks": "as submitted",
            "Truth": Path(truth).name,
            "Slices": f"{len(common):,} of the {rows['id'].nunique():,} submitted and {len(labels):,} known",
        },
        organs=organs,
        index=common.drop(columns=list(organs), errors="ignore").reset_index(drop=True),
        truth=_as_rows(labels, organs, "segmentation"),
        prediction=rows,
        load_gray=lambda scan_rows: _gray(decode_scan(scan_rows), IntensitySettings()),
    )


def _finished_folds(run: Path) -> dict[int, Path]:
    """Return the folders of the folds that have their held-out probabilities, by fold."""
    folders = {_fold_number(path.parents[1]): path.parents[1] for path in run.glob("fold_*/oof/index.csv")}
    if not folders:
        raise DatasetError(
            f"{run} holds no fold_K/oof/index.csv, which `gitract train` writes when a fold ends: "
            "give the folder of a run, and finish one fold at least"
        )
    return dict(sorted(folders.items()))


def _fold_number(folder: Path) -> int:
    number = folder.name.removeprefix("fold_")
    if not number.isdecimal():
        raise DatasetError(f"{folder}: expected a fold's folder, fold_0 or fold_1 say; move this one away")
    return int(number)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): train the fold again") from error


def _thresholds(run: Path, settings: Settings) -> dict[str, float]:
    """Return the probability from which a pixel counts, by organ."""
    prediction = settings.prediction
    path = run / "prediction.json"
    if path.is_file():
        prediction = settings_from_dict({"prediction": {**asdict(prediction), **_read_json(path)}}).prediction
    found = prediction.threshold
    if not isinstance(found, Mapping):
        return dict.fromkeys(settings.organs, found)
    if set(found) != set(settings.organs):
        raise SettingsError(
            f"{path}: prediction.threshold names {', '.join(sorted(found)) or 'no organ'}, expected one value "
            f"for each of {', '.join(settings.organs)}, or one number for all"
        )
    return dict(found)


def _read_index(folder: Path, organs: Sequence[str]) -> pd.DataFrame:
    text = dict.fromkeys(("id", "case", "scan", "path", *organs), str)
    return pd.read_csv(folder / "oof" / "index.csv", dtype=text, keep_default_na=False)


def _predict(folder: Path, rows: pd.DataFrame, thresholds: Mapping[str, float]) -> pd.DataFrame:
    """Return ``id`` and a column of run-length strings an organ for the held-out slices of a fold."""
    tables = [
        _predict_scan(folder, name, scan, thresholds) for name, scan in rows.groupby("scan", sort=False)
    ]
    return pd.concat(tables, ignore_index=True)


def _predict_scan(
    folder: Path, name: str, rows: pd.DataFrame, thresholds: Mapping[str, float]
) -> pd.DataFrame:
    rows = rows.sort_values("slice", kind="stable")
    probabilities = _load_probabilities(folder / "oof" / f"{name}.npz")
    expected = (len(rows), len(thresholds), int(rows.iloc[0]["height"]), int(rows.iloc[0]["width"]))
    if probabilities.shape != expected or probabilities.dtype != np.uint8:
        raise DatasetError(
            f"{folder}/oof/{name}.npz holds {probabilities.dtype} {probabilities.shape}, its index says uint8 "
            f"{expected}: train the fold again"
        )
    columns = {
        # the small number lets a probability that equals the threshold pass: 0.2 * 255 is over 51
        organ: rle_encode_batch(probabilities[:, k] >= threshold * 255 - 1e-6)
        for k, (organ, threshold) in enumerate(thresholds.items())
    }
    return pd.DataFrame({"id": rows["id"].to_numpy(), **columns})


def _load_probabilities(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["probabilities"]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): train the fold again") from error


def _run_facts(
    settings: Settings, about: Mapping[int, Mapping[str, Any]], thresholds: Mapping[str, float]
) -> dict[str, str]:
    values = list(thresholds.values())
    shown = (
        f"{values[0]:g}" if len(set(values)) == 1 else ", ".join(f"{o} {v:g}" for o, v in thresholds.items())
    )
    return {
        "Preset": settings.preset,
        "Network": f"{settings.model.architecture}, {settings.model.encoder}",
        "Kept epochs": ", ".join(f"{one['epoch']} (fold {fold})" for fold, one in about.items()),
        "Masks": f"held-out probability of at least {shown}, no clean-up",
    }


def _read_curves(run: Path) -> dict[int, pd.DataFrame]:
    paths = {_fold_number(path.parent): path for path in run.glob("fold_*/metrics.csv")}
    return {fold: pd.read_csv(path) for fold, path in sorted(paths.items())}


def _gray(scan: Scan, intensity: IntensitySettings) -> np.ndarray:
    return to_gray(scan.volume, *intensity_range(scan.volume, intensity))


def _as_rows(table: pd.DataFrame, organs: Sequence[str], value: str) -> pd.DataFrame:
    """Return a table with a column an organ as rows id, class, ``value``."""
    return table.melt(id_vars="id", value_vars=list(organs), var_name="class", value_name=value)
