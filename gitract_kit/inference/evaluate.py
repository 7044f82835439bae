"""What a run is worth on the scans that it never saw, alone and together with others, and which settings suit it.

Everything is read from the run folders. What it finds goes back there:

    RUN/evaluation.json     every number, for the report
    RUN/prediction.json     the settings that a bundle of the run carries
    RUN/ensemble.json       of several runs, in the first one's folder: their weights, settings and numbers
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from gitract_kit.competition.metric import VARIANTS, Score, competition_score
from gitract_kit.competition.score_sums import bootstrap_interval, score_by
from gitract_kit.data.held_out import predict_rows
from gitract_kit.data.oof import PREDICTION, HeldOutScan, RunOof, common_folds, load_runs, read_scan
from gitract_kit.data.scans import iterate_scans
from gitract_kit.errors import SettingsError
from gitract_kit.files import write_text_atomic
from gitract_kit.inference.evaluation_text import describe
from gitract_kit.inference.fitting import Point, fit_settings, fit_weights, judge
from gitract_kit.inference.search import (
    create_grid,
    measure_settings,
    measure_weights,
    settings_by_field,
    settings_of,
)
from gitract_kit.settings import PredictionSettings

__all__ = ["EvaluationResult", "evaluate_runs"]

EVALUATION, ENSEMBLE = "evaluation.json", "ensemble.json"

_FORMAT = 1
_WORST = 10

T = TypeVar("T")
Progress = Callable[..., Iterable[Any]]


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What `evaluate_runs` found; as text, the tables that a person reads."""

    runs: tuple[dict[str, Any], ...]
    """The content of each run's evaluation.json."""
    ensemble: dict[str, Any] | None
    """The content of ensemble.json; None for one run."""
    written: tuple[Path, ...]

    def to_text(self) -> str:
        """Return the tables of every run and of their ensemble."""
        subjects = [*self.runs, *([self.ensemble] if self.ensemble else [])]
        files = "\n".join(f"written: {path}" for path in self.written)
        return "\n\n".join([*(describe(subject) for subject in subjects), files])

    __str__ = to_text


def evaluate_runs(
    runs: Sequence[str | Path],
    *,
    gates: Sequence[str | Path] = (),
    search: bool = True,
    resamples: int = 1000,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Score the out-of-fold probabilities of ``runs``, choose their settings, and write both into their folders.

    Several runs are scored one by one and as an ensemble of the folds that all have. Settings and weights are fitted
    by the ``leaderboard`` score, and kept only where scans that had no part in the choice gain by it: those of the
    fold left out, or of the case where there is one fold; so are limits of the gate, where such scans gain more with
    them than by clean-up alone. Without ``search`` the runs' own settings are scored and no prediction.json is written.

    ``gates`` are runs whose mean is the slice gate of all others, as the members of a bundle of that role are; its
    limits are then searched with the rest, in place of those of the segmenters' gate to themselves. ``workers`` scans
    are in memory at a time, one a core where None. ``progress`` may wrap the iterator of scans (say, tqdm; called with
    ``total`` and ``desc``).

    Runs of other data, folds or organs than the first, or a gate that lacks a run's fold, are a `SettingsError`,
    damaged ones a `DatasetError`.
    """
    everything = load_runs([*runs, *gates])
    loaded, gating = everything[: len(runs)], everything[len(runs) :]
    _check_gated(loaded, gating)
    make = _Evaluator(gating, search, resamples, seed, workers or os.cpu_count() or 1, progress)
    numbers = [make.evaluate([run], [1.0], run.index) for run in loaded]
    ensemble = make.evaluate_ensemble(loaded) if len(loaded) > 1 else None
    written = []
    for run, one in zip(loaded, numbers, strict=True):
        written.append(_write_json(run.folder / EVALUATION, one))
        if search:
            written.append(_write_json(run.folder / PREDICTION, one["chosen"]["prediction"]))
    if ensemble is not None:
        written.append(_write_json(loaded[0].folder / ENSEMBLE, ensemble))
    return EvaluationResult(tuple(numbers), ensemble, tuple(written))


class _Evaluator:
    """How scores are made; `evaluate` makes those of one run, or of several as one."""

    def __init__(
        self,
        gates: Sequence[RunOof],
        search: bool,
        resamples: int,
        seed: int,
        workers: int,
        progress: Progress | None,
    ) -> None:
        self._gates = gates
        self._search, self._resamples, self._seed, self._workers = search, resamples, seed, workers
        self._progress = progress

    def evaluate(
        self, runs: Sequence[RunOof], weights: Sequence[float], index: pd.DataFrame
    ) -> dict[str, Any]:
        """Return the numbers of the weighted mean of ``runs`` on the slices of ``index``."""
        organs, own = runs[0].organs, runs[0].prediction
        gates = [str(gate.folder) for gate in self._gates]
        numbers = {
            **_about(runs, weights, index),
            "gates": gates,
            "seed": self._seed,
            "resamples": self._resamples,
        }
        if self._search:
            rows, numbers["search"], chosen = self._search_settings(runs, weights, index)
            numbers["own"] = self._scores(own, rows, index, organs)
            numbers["chosen"] = numbers["own"]
            if numbers["search"]["kept"]:
                rows = self._predict(runs, weights, index, chosen)
                numbers["chosen"] = self._scores(chosen, rows, index, organs)
        else:
            rows = self._predict(runs, weights, index, own)
            numbers["own"] = self._scores(own, rows, index, organs)
        numbers["worst_scans"] = _worst(numbers.get("chosen", numbers["own"]))
        return numbers

    def evaluate_ensemble(self, runs: Sequence[RunOof]) -> dict[str, Any]:
        """Return the numbers of the runs' mean, its weights searched, on the folds that all of them have."""
        common, partial = common_folds(runs)
        index = runs[0].index[runs[0].index["fold"].isin(common)].reset_index(drop=True)
        weights, found = (1.0 / len(runs),) * len(runs), None
        if self._search:
            weights, found = self._search_weights(runs, index)
        return {**self.evaluate(runs, weights, index), "folds_left_out": partial, "weight_search": found}

    def _search_settings(
        self, runs: Sequence[RunOof], weights: Sequence[float], index: pd.DataFrame
    ) -> tuple[pd.DataFrame, dict[str, Any], PredictionSettings]:
        """Rows under the runs' own settings, what the search found, and the settings that it fits to all scans."""
        organs, own = runs[0].organs, runs[0].prediction
        grid = create_grid(own, organs, gated=bool(self._gates))

        def work(held_out: HeldOutScan) -> tuple[pd.DataFrame, np.ndarray]:
            rows = predict_rows(held_out, weights, own, organs)
            return rows, measure_settings(held_out, weights, own, organs, grid)

        def by_field(picks: Sequence[int]) -> dict[str, dict[str, float]]:
            return settings_by_field([grid[pick] for pick in picks], organs)

        rows, tables = zip(*self._each_scan(runs, index, work, "settings"), strict=True)
        table, groups = np.stack(tables), _groups(index)
        start = [grid.index(one) for one in settings_of(own, organs)]
        own_gates = {grid[pick].gates for pick in start}
        searches = {
            "clean-up": [number for number, one in enumerate(grid) if one.gates in own_gates],
            "clean-up and gate": range(len(grid)),
        }
        fits = {
            name: judge(table, groups, start, fit_settings(start, allowed))
            for name, allowed in searches.items()
        }
        # the wider choice fits better by nature, and is taken where scans that had no part in it gain more
        name = max(fits, key=lambda name: fits[name].left_out_total or 0.0)
        found = {
            **_describe_groups(index),
            "tried": len(searches[name]),
            "searched": name,
            "left_out_totals": {name: fitted.left_out_total for name, fitted in fits.items()},
            **fits[name].describe("settings", by_field),
        }
        return pd.concat(rows), found, dataclasses.replace(own, **by_field(fits[name].picks))

    def _search_weights(self, runs: Sequence[RunOof], index: pd.DataFrame) -> tuple[Point, dict[str, Any]]:
        """The runs' weights, and what their search found."""
        organs, own = runs[0].organs, runs[0].prediction

        def tabulate(points: Sequence[Point]) -> np.ndarray:
            def work(held_out: HeldOutScan) -> np.ndarray:
                return measure_weights(held_out, points, own, organs)

            return np.stack(list(self._each_scan(runs, index, work, "weights")))

        points, fitted = fit_weights(tabulate, len(runs), _groups(index))
        described = fitted.describe("weights", lambda picks: list(points[picks[0]]))
        weights = points[fitted.picks[0]] if fitted.kept else points[0]
        return weights, {**_describe_groups(index), "tried": len(points), **described}

    def _predict(
        self,
        runs: Sequence[RunOof],
        weights: Sequence[float],
        index: pd.DataFrame,
        prediction: PredictionSettings,
    ) -> pd.DataFrame:
        def work(held_out: HeldOutScan) -> pd.DataFrame:
            return predict_rows(held_out, weights, prediction, runs[0].organs)

        return pd.concat(self._each_scan(runs, index, work, "masks"))

    def _each_scan(
        self, runs: Sequence[RunOof], index: pd.DataFrame, work: Callable[[HeldOutScan], T], what: str
    ) -> Iterator[T]:
        """``work`` of every scan in the index's order, a scan a thread."""
        scans = [rows for _, rows in iterate_scans(index)]
        # threads, not processes: nearly all of the time is spent inside zlib, numpy, OpenCV and scipy
        with ThreadPoolExecutor(self._workers) as pool:
            results = pool.map(lambda rows: work(read_scan(runs, rows, self._gates)), scans)
            yield from self._progress(results, total=len(scans), desc=what) if self._progress else results

    def _scores(
        self, prediction: PredictionSettings, rows: pd.DataFrame, index: pd.DataFrame, organs: Sequence[str]
    ) -> dict[str, Any]:
        truth = index.melt(id_vars="id", value_vars=list(organs), var_name="class", value_name="segmentation")
        scores = {}
        for variant in VARIANTS:
            score = competition_score(truth, rows, index, variant, organs=organs, workers=self._workers)
            scores[variant] = _numbers_of(score, index, self._resamples, self._seed)
        return {
            "prediction": settings_by_field(settings_of(prediction, organs), organs),
            "scores": scores,
        }


def _check_gated(runs: Sequence[RunOof], gates: Sequence[RunOof]) -> None:
    if not runs:
        raise SettingsError("only gates were given; a gate alone draws nothing: give the run that it is for")
    for gate in gates:
        lacking = sorted({fold for run in runs for fold in run.folds} - set(gate.folds))
        if lacking:
            raise SettingsError(
                f"{gate.folder} has no held-out probabilities of fold {lacking[0]}, which it is to be the gate of; "
                f"train that fold of it first: gitract train WORK --fold {lacking[0]} -o {gate.folder}"
            )


def _about(runs: Sequence[RunOof], weights: Sequence[float], index: pd.DataFrame) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "runs": [str(run.folder) for run in runs],
        "weights": list(weights),
        "organs": list(runs[0].organs),
        "data_fingerprint": runs[0].fingerprint,
        "folds": sorted(int(fold) for fold in index["fold"].unique()),
        "folds_unfinished": sorted({fold for run in runs for fold in run.unfinished}),
        "cases": int(index["case"].nunique()),
        "scans": int(index["scan"].nunique()),
        "slices": len(index),
    }


def _numbers_of(score: Score, index: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    scans = index.drop_duplicates("scan").set_index("scan")[["case", "fold"]]
    parts = score.parts.join(scans, on="scan")
    whole = ("total", "dice", "hausdorff", "rows", "rows_both_empty", "rows_one_empty", "volumes")
    return {
        **{name: getattr(score, name) for name in whole},
        "interval": bootstrap_interval(parts, resamples=resamples, seed=seed),
        "by_organ": _records(score.by_organ),
        "by_fold": _records(score_by(parts, "fold")),
        "by_scan": _records(score.by_scan.join(scans)),
        "parts": parts.to_dict("records"),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.reset_index().to_dict("records")


def _groups(index: pd.DataFrame) -> list[Hashable]:
    """What each scan is left out with, in the index's order."""
    return index.drop_duplicates("scan")[_describe_groups(index)["left_out"]].tolist()


def _describe_groups(index: pd.DataFrame) -> dict[str, Any]:
    # within one fold the network is one, and only the choice itself can be left out of
    kind = "fold" if index["fold"].nunique() > 1 else "case"
    return {"left_out": kind, "groups": int(index[kind].nunique())}


def _worst(scored: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scans of the lowest leaderboard score, worst first; scans without a score are none."""
    scans = [one for one in scored["scores"]["leaderboard"]["by_scan"] if not np.isnan(one["total"])]
    return sorted(scans, key=lambda one: one["total"])[:_WORST]


def _write_json(path: Path, content: Any) -> Path:
    write_text_atomic(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")
    return path


def _plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numpy's numbers as Python's, NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value
