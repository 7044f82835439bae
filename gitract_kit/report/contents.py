"""What a report shows, whatever it is about: slices, their true and predicted masks, and how training went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gitract_kit.competition.index import build_index, read_labels
from gitract_kit.competition.layout import UW_MADISON
from gitract_kit.competition.submission import read_submission
from gitract_kit.data.held_out import predict_rows
from gitract_kit.data.oof import HeldOutScan, RunOof, load_oof
from gitract_kit.data.overlay import to_gray
from gitract_kit.data.scans import Scan, decode_scan, intensity_range, load_cached_scan
from gitract_kit.errors import DatasetError
from gitract_kit.report.drawing import Drawing, describe_settings, each_scan, is_chosen, read_drawing
from gitract_kit.settings import IntensitySettings, ModelSettings, Settings, settings_from_dict

__all__ = [
    "OWN_ARCHITECTURES",
    "Contents",
    "contents_of",
    "network_name",
    "read_run",
    "read_submission_and_truth",
    "settings_of_run",
]

OWN_ARCHITECTURES = frozenset({"unet_2015", "resunetplusplus"})
"""The kit's own architectures, whose encoder is part of them: the settings of encoders do not concern them."""


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
    evaluation: Mapping[str, Any] | None = None
    """What ``RUN/evaluation.json`` says, where it is there."""


def read_run(run: str | Path, work: str | Path | None = None) -> Contents:
    """Return what the run folder ``run`` holds: its held-out scans, with the masks that the chosen settings draw.

    Those are the settings of ``run/prediction.json`` where it is there, and else the run's own. ``work`` is the
    prepared folder with the cached scans; None takes the one that the run was trained from. A folder without held-out
    probabilities is a `DatasetError`.
    """
    held_out = load_oof(run)
    organs, drawing = held_out.organs, read_drawing(held_out)

    def draw(scan: HeldOutScan) -> pd.DataFrame:
        return predict_rows(scan, [1.0], drawing.prediction, organs)

    rows = pd.concat(each_scan(held_out, drawing, held_out.index, draw))
    return contents_of(held_out, drawing, held_out.index, rows, work)


def contents_of(
    run: RunOof, drawing: Drawing, index: pd.DataFrame, rows: pd.DataFrame, work: str | Path | None
) -> Contents:
    """Return the slices of ``index`` as a report shows them, their masks predicted as ``rows``."""
    settings = settings_of_run(run)
    first = run.abouts[run.folds[0]]
    scan_folder = Path(work or first.get("work", "")) / "scans"
    if not scan_folder.is_dir():
        raise DatasetError(f"{scan_folder} is not there: give the folder that `gitract prepare` made")
    return Contents(
        title=f"Run {run.folder.resolve().name}",
        facts=_run_facts(run, settings, drawing),
        organs=run.organs,
        index=index,
        truth=_as_rows(index, run.organs, "segmentation"),
        prediction=rows,
        load_gray=lambda scan: _gray(load_cached_scan(scan, scan_folder), settings.intensity),
        curves=_read_curves(run.folder),
        evaluation=drawing.evaluation,
    )


def settings_of_run(run: RunOof) -> Settings:
    """Return the settings of the run's lowest fold."""
    return settings_from_dict(run.abouts[run.folds[0]]["settings"])


def network_name(model: ModelSettings) -> str:
    """Return what a reader calls the network: its architecture and, where that is a choice, its encoder."""
    own = model.architecture in OWN_ARCHITECTURES
    return model.architecture if own else f"{model.architecture}, {model.encoder}"


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
        # the truth stays whole: a scan is as deep as all its slices, whatever the folder has of them
        prediction=rows[rows["id"].isin(common["id"])],
        load_gray=lambda scan_rows: _gray(decode_scan(scan_rows), IntensitySettings()),
    )


def _run_facts(run: RunOof, settings: Settings, drawing: Drawing) -> dict[str, str]:
    kept = [f"{about['epoch']} (fold {fold})" for fold, about in run.abouts.items() if "epoch" in about]
    whose = "chosen by evaluate" if is_chosen(run) else "the run's own settings"
    facts = {
        "Preset": settings.preset,
        "Network": network_name(settings.model),
        "Kept epochs": ", ".join(kept),
        "Masks": f"{whose}: {describe_settings(drawing, run.organs)}",
    }
    if run.unfinished:
        facts["Not shown"] = f"fold {', '.join(map(str, run.unfinished))}: not trained to its end"
    return facts


def _read_curves(run: Path) -> dict[int, pd.DataFrame]:
    paths = {path.parent.name.removeprefix("fold_"): path for path in run.glob("fold_*/metrics.csv")}
    folds = sorted(int(number) for number in paths if number.isdecimal())
    return {fold: _read_curve(paths[str(fold)]) for fold in folds}


def _read_curve(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except ValueError as error:
        raise DatasetError(
            f"{path} is no table ({error}); delete it, or go on with the run, which writes it"
        ) from error


def _gray(scan: Scan, intensity: IntensitySettings) -> np.ndarray:
    return to_gray(scan.volume, *intensity_range(scan.volume, intensity))


def _as_rows(table: pd.DataFrame, organs: Sequence[str], value: str) -> pd.DataFrame:
    """Return a table with a column an organ as rows id, class, ``value``."""
    return table.melt(id_vars="id", value_vars=list(organs), var_name="class", value_name=value)
