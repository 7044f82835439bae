"""How the masks of a run's held-out scans are drawn: by its own settings, or by those that a search chose."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from gitract_kit.data.oof import (
    PREDICTION,
    HeldOutScan,
    RunOof,
    chosen_prediction,
    load_runs,
    read_scan,
)
from gitract_kit.data.postprocess import by_organ
from gitract_kit.data.scans import iterate_scans
from gitract_kit.errors import DatasetError
from gitract_kit.settings import PredictionSettings

__all__ = [
    "SETTING_LABELS",
    "Drawing",
    "describe_settings",
    "each_scan",
    "is_chosen",
    "own_drawing",
    "read_drawing",
]

T = TypeVar("T")

SETTING_LABELS = {
    "threshold": "threshold",
    "min_component_px": "smallest component of a slice, pixels",
    "min_area_px": "smallest area on a slice, pixels",
    "min_component_voxels": "smallest component of a scan, voxels",
    "max_distance_mm": "farthest component, mm",
    "own_gate_threshold": "own gate's threshold",
    "own_gate_min_px": "own gate's pixels",
    "gate_threshold": "gate's threshold",
    "gate_min_px": "gate's pixels",
}
"""What a reader calls the settings that decide about masks, in the order of their work."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """The settings of masks, and where they come from."""

    prediction: PredictionSettings
    gates: tuple[RunOof, ...] = ()
    """The runs that are the gate."""
    evaluation: Mapping[str, Any] | None = None
    """The content of the run's evaluation.json; None where it has none."""


def is_chosen(run: RunOof) -> bool:
    """Return whether `gitract evaluate` has chosen settings for the run."""
    return (run.folder / PREDICTION).is_file()


def own_drawing(run: RunOof) -> Drawing:
    """Return how the run's masks are drawn by the settings that it was trained with."""
    return Drawing(run.prediction)


def read_drawing(run: RunOof) -> Drawing:
    """Return how the run's masks are drawn by what was chosen for it, and by its own settings where nothing was.

    A gate that is no longer where it was is a `DatasetError`, damaged settings are a `SettingsError`.
    """
    evaluation = _read_evaluation(run)
    _, *gates = load_runs([run.folder, *(evaluation or {}).get("gates", [])])
    return Drawing(chosen_prediction(run.folder, run.prediction), tuple(gates), evaluation)


def each_scan(
    run: RunOof, drawing: Drawing, index: pd.DataFrame, work: Callable[[HeldOutScan], T]
) -> Iterator[T]:
    """Yield ``work`` of every scan of ``index``, in its order, a scan a thread."""
    scans = [rows for _, rows in iterate_scans(index)]
    # threads, not processes: nearly all of the time is spent inside zlib, numpy, OpenCV and scipy
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda rows: work(read_scan([run], rows, drawing.gates)), scans)


def describe_settings(drawing: Drawing, organs: Sequence[str]) -> str:
    """Return the settings that change something, as a person reads them."""
    prediction = drawing.prediction
    told = []
    for name, label in SETTING_LABELS.items():
        values = by_organ(getattr(prediction, name), organs, name)
        gate, own_gate = name.startswith("gate_"), name.startswith("own_gate_")
        idle = (gate and not drawing.gates) or (own_gate and not any(_own_gate(prediction, organs)))
        if any(values) and not idle:
            told.append(f"{label} {_values(values, organs)}")
    told += ["gaps filled"] if prediction.fill_gaps else []
    told += ["one organ a pixel"] if prediction.exclusive else []
    return "; ".join(told)


def _own_gate(prediction: PredictionSettings, organs: Sequence[str]) -> tuple[int, ...]:
    return by_organ(prediction.own_gate_min_px, organs, "own_gate_min_px")


def _values(values: Sequence[float | None], organs: Sequence[str]) -> str:
    shown = ["none" if value is None else f"{value:g}" for value in values]
    if len(set(shown)) == 1:
        return shown[0]
    return ", ".join(f"{value} {organ.replace('_', ' ')}" for organ, value in zip(organs, shown, strict=True))


def _read_evaluation(run: RunOof) -> Mapping[str, Any] | None:
    path = run.folder / "evaluation.json"
    if not path.is_file():
        return None
    try:
        evaluation = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(evaluation, dict) or "own" not in evaluation:
            raise ValueError("it holds no scores of a run's own settings")
        return evaluation
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}): write it again with `gitract evaluate`, or delete it"
        ) from error
