"""Several runs, measured on the same held-out scans: what a table that compares them holds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gitract_kit.data.held_out import predict_rows
from gitract_kit.data.oof import HeldOutScan, RunOof, common_folds, load_runs
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.report.contents import (
    OWN_ARCHITECTURES,
    Contents,
    contents_of,
    network_name,
    settings_of_run,
)
from gitract_kit.report.drawing import Drawing, each_scan, is_chosen, own_drawing, read_drawing
from gitract_kit.report.scores import Scored, score_variant
from gitract_kit.settings import Settings, settings_to_dict

__all__ = ["Comparison", "Model", "compare", "count_parameters", "differing_settings", "soft_dice"]

# kept beside the weights, and not learnt
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class Model:
    """One run of a comparison."""

    label: str
    """The run folder's name, or its path where names are not enough."""
    settings: Settings
    contents: Contents
    """Its masks of the compared scans."""
    scored: Scored
    loss_dice: float
    """Dice of the probabilities, as the training's Dice loss counts it: mean of scans and organs."""
    accuracy_dice: float
    """Mean Dice of all slices and organs, 1 where both masks are empty."""
    parameters: float
    """Numbers that training changes; NaN where the run has no weights."""
    epoch_seconds: float
    """Median of the epochs, without validation; NaN where the run did not write it down."""
    computing: str
    """What it was trained on, "" where the run does not say."""

    @property
    def network(self) -> str:
        """Architecture and, where it is a choice, encoder."""
        return network_name(self.settings.model)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs on the folds that all of them have."""

    models: tuple[Model, ...]
    index: pd.DataFrame
    """The slices compared, as `RunOof.index`."""
    chosen: bool
    """Whether the masks follow the settings that `gitract evaluate` chose for each run, and not each run's own."""
    some_chosen: bool
    """Whether such settings are there for some of the runs."""
    folds_left_out: tuple[int, ...]
    """Folds that only some of the runs have."""

    @property
    def organs(self) -> tuple[str, ...]:
        """Class names, in order."""
        return self.models[0].contents.organs


def compare(runs: Sequence[str | Path], work: str | Path | None = None) -> Comparison:
    """Return what the run folders ``runs`` make of the held-out scans that all of them have.

    Masks follow the settings that were chosen for a run where that was done for all, and else the own ones of each, so
    that like is compared with like. ``work`` is the prepared folder, where it is not where the runs were trained from.
    Fewer than two runs, or runs of other data, organs or folds are a `SettingsError`.
    """
    if len(runs) < 2:
        raise SettingsError(
            "one run was given; a comparison takes two or more: gitract compare RUN RUN -o DIR"
        )
    loaded = load_runs(runs)
    common, left_out = common_folds(loaded)
    index = loaded[0].index[loaded[0].index["fold"].isin(common)].reset_index(drop=True)
    chosen = [is_chosen(run) for run in loaded]
    read = read_drawing if all(chosen) else own_drawing
    labels = _labels([run.folder for run in loaded])
    models = [_measure(run, label, read(run), index, work) for run, label in zip(loaded, labels, strict=True)]
    return Comparison(tuple(models), index, all(chosen), any(chosen), tuple(left_out))


def soft_dice(probabilities: np.ndarray, masks_true: np.ndarray) -> float:
    """Return 1 - Dice loss of one scan: ``probabilities`` uint8 and ``masks_true`` bool, (z, organ, y, x) both.

    One Dice an organ over the whole scan, with the squares of V-Net (Milletari et al. 2016) and 1 added above and
    below, as the training's loss has it; their mean.
    """
    values = []
    for organ in range(masks_true.shape[1]):
        probability = probabilities[:, organ].astype(np.float32) / np.float32(255)
        inside = float(probability[masks_true[:, organ]].sum(dtype=np.float64))
        size = float(np.vdot(probability, probability)) + np.count_nonzero(masks_true[:, organ])
        values.append((2 * inside + 1) / (size + 1))
    return float(np.mean(values))


def count_parameters(path: Path) -> float:
    """Return how many numbers of the safetensors file ``path`` were learnt; NaN where there is no file.

    Only the file's header is read. One that is torn is a `DatasetError`.
    """
    if not path.is_file():
        return math.nan
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes = {name: one["shape"] for name, one in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise DatasetError(
            f"{path}: its header cannot be read ({error}); resume the fold's training, or train it again"
        ) from error
    return float(sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_BUFFERS)))


def differing_settings(models: Sequence[Model]) -> dict[str, list[str]]:
    """Return each model's value of the settings in which the runs differ, the preset's name apart.

    A setting that does not concern a model is ``-`` there, as those of the encoder for an architecture of the kit's.
    """
    flat = [_settings_that_count(model.settings) for model in models]
    names = [name for name in dict.fromkeys(key for one in flat for key in one) if name != "preset"]
    values = {name: [str(one.get(name, "-")) for one in flat] for name in names}
    return {name: told for name, told in values.items() if len(set(told)) > 1}


def _settings_that_count(settings: Settings) -> dict[str, Any]:
    flat = _flatten(settings_to_dict(settings))
    if settings.model.architecture not in OWN_ARCHITECTURES:
        return flat
    return {name: value for name, value in flat.items() if not name.startswith("model.encoder")}


def _measure(
    run: RunOof, label: str, drawing: Drawing, index: pd.DataFrame, work: str | Path | None
) -> Model:
    def look_at(scan: HeldOutScan) -> tuple[pd.DataFrame, float]:
        rows = predict_rows(scan, [1.0], drawing.prediction, run.organs)
        return rows, soft_dice(scan.probabilities[0], scan.masks_true)

    rows, dice = zip(*each_scan(run, drawing, index, look_at), strict=True)
    contents = contents_of(run, drawing, index, pd.concat(rows), work)
    scored = score_variant(contents)
    sums = scored.parts[["dice_sum", "rows_both_empty", "rows"]].sum()
    folds = sorted(index["fold"].unique())
    return Model(
        label=label,
        settings=settings_of_run(run),
        contents=contents,
        scored=scored,
        loss_dice=float(np.mean(dice)),
        accuracy_dice=float((sums["dice_sum"] + sums["rows_both_empty"]) / sums["rows"]),
        parameters=count_parameters(run.folder / f"fold_{folds[0]}" / "model.safetensors"),
        epoch_seconds=_epoch_seconds([contents.curves[fold] for fold in folds if fold in contents.curves]),
        computing=_computing(run.folder / f"fold_{folds[0]}" / "run.json"),
    )


def _labels(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _epoch_seconds(tables: Sequence[pd.DataFrame]) -> float:
    found = [table["train_seconds"] for table in tables if "train_seconds" in table]
    return float(pd.concat(found).median()) if found else math.nan


def _computing(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        told = json.loads(path.read_text(encoding="utf-8")).get("computing", {})
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): delete it, or train the fold again") from error
    if not told:
        return ""
    several = f"{told['processes']} x " if told["processes"] > 1 else ""
    return f"{several}{told['device_name']}, {told['precision']}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        flat.update(_flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat
