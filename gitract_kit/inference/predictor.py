"""From a competition folder to its submission, a few scans in memory at a time."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gitract_kit.competition.image_mask import require_mask_pictures, write_mask_pictures
from gitract_kit.competition.layout import UW_MADISON, Layout
from gitract_kit.competition.rle import rle_encode_batch
from gitract_kit.data.postprocess import CleanUp
from gitract_kit.data.scans import Scan, decode_scan, iterate_scans
from gitract_kit.errors import PredictionError, SettingsError
from gitract_kit.inference.budget import Budget, Level, plan_levels, time_members
from gitract_kit.inference.devices import Devices, ScanRows
from gitract_kit.inference.ensemble import Ensemble
from gitract_kit.inference.faults import FaultLog, in_rerun
from gitract_kit.inference.gate import Gate
from gitract_kit.inference.member import Member
from gitract_kit.inference.record import PredictionSummary, write_record
from gitract_kit.inference.rows import SubmissionRows, start_submission
from gitract_kit.inference.run import PredictionRun, sigterm_as_exit
from gitract_kit.inference.slices import find_slices, wanted_slices
from gitract_kit.settings import PredictionSettings

__all__ = ["PredictionSummary", "Predictor"]


class Predictor:
    """Members, and what turns their probabilities into a submission.

    ``organs`` are the classes to predict, in the order of the members' probabilities; None takes the members' own.
    ``in_flight`` scans are in memory at once: while one is in the network, the others decode or encode. ``elsewhere``
    are predictors of the same members on further devices, named, each to be made in a process of its own (`Devices`).
    """

    def __init__(
        self,
        members: Sequence[Member],
        prediction: PredictionSettings,
        organs: Sequence[str] | None = None,
        *,
        layout: Layout = UW_MADISON,
        in_flight: int = 2,
        elsewhere: Sequence[tuple[str, Callable[[], Predictor]]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._members = tuple(members)
        self._settings = prediction
        self._in_flight = in_flight
        self._elsewhere = elsewhere
        self._clock = clock
        self._stages: dict[tuple[tuple[int, ...], bool], _Stages] = {}
        self._full = plan_levels(self._members)[0]
        self.organs = self._stages_at(self._full).organs
        if organs is not None and tuple(organs) != self.organs:
            raise SettingsError(
                f"the members predict {', '.join(self.organs)}, asked for were {', '.join(organs)}; "
                "take the bundle that was trained for these"
            )
        self._layout = dataclasses.replace(layout, organs=self.organs)

    def predict_scan(self, scan: Scan) -> np.ndarray:
        """Return the masks of ``scan``: (z, organ, y, x) bool at its own size."""
        return self._stages_at(self._full).predict_masks(scan)

    def predict_rows(self, slices: pd.DataFrame, level: Level) -> ScanRows:
        """Return the rows of the scan of these index rows (`build_index`), predicted as ``level`` says."""
        scan = decode_scan(slices)
        masks = self._stages_at(level).predict_masks(scan)
        return ScanRows(scan.ids, [rle_encode_batch(masks[:, organ]) for organ in range(len(self.organs))])

    def predict(
        self,
        root: str | Path,
        output: str | Path,
        *,
        split: str = "test",
        sample: str | Path | None = None,
        masks: str | Path | None = None,
        budget_s: float | None = None,
        rerun: bool | None = None,
        progress: bool = True,
    ) -> PredictionSummary:
        """Write the submission of ``root/split`` to ``output``, and ``run.json`` beside it.

        The rows are those of ``sample`` (for the test split else of the layout's own in ``root``) in its order;
        where it is missing or a mere header, the slices' own in natural order. A valid submission stands from
        the start: first every row empty, then with what is done so far, each time replaced as a whole. Where
        there is no test scan at all, ``prediction.on_empty_test`` says what happens. Once the submission is whole, its
        masks go to the folder ``masks`` too, where one is named: a PNG a slice (`write_mask_pictures`).

        With ``budget_s`` the run ends in that many seconds: it does less for each scan, and in the end leaves rows
        empty, rather than overrun; ``run.json`` says what was done to which scan.

        A fault stops the run with an error that names the file. In the hidden rerun (``rerun``; None asks the
        environment) the rows of its scan stay empty and the run goes on; where more scans fail than
        ``prediction.max_failed_share``, a `PredictionError` is raised once everything is written.
        """
        start = self._clock()
        output = Path(output)
        if masks is not None:
            require_mask_pictures(self._layout)
        faults = FaultLog(tolerant=in_rerun() if rerun is None else rerun)
        with sigterm_as_exit():
            rows = start_submission(root, output, self._layout, split=split, sample=sample, faults=faults)
            split, index = find_slices(
                root, split, self._settings, self._layout, faults, rows_wanted=len(rows) > 0
            )
            if len(rows):
                index = wanted_slices(index, rows, faults)
            else:
                rows = SubmissionRows.of_slices(index["id"], self._layout)
            with self._devices(index) as devices:
                levels = self._plan(index, budget_s)
                budget = Budget(
                    math.inf if budget_s is None else budget_s, levels, self._clock, start, len(devices)
                )
                run = PredictionRun(rows, output, self.organs, devices, budget, faults, progress)
                run.predict_scans(index)
            _write(rows, output, index)
            if masks is not None:
                _write_masks(masks, index, rows, self._layout)
        summary = PredictionSummary(
            output,
            len(rows),
            split,
            tuple(run.records),
            self._clock() - start,
            tuple(faults.faults),
            faults.tolerant,
        )
        try:
            write_record(summary, self._about(levels, budget_s))
        except OSError as error:
            # last, and of no use to the score: the rerun's submission must not be lost to it
            faults.note(
                PredictionError(
                    f"{summary.record} could not be written ({error.strerror}), but the submission is whole: make room "
                    "on the disk, and predict again for the record"
                ),
                lost=False,
            )
            summary = dataclasses.replace(summary, faults=tuple(faults.faults))
        faults.check_share(len({*index["scan"], *faults.lost_scans}), self._settings.max_failed_share)
        return summary

    def _devices(self, index: pd.DataFrame) -> Devices:
        """This predictor and those elsewhere that a scan is left for."""
        return Devices(self, self._elsewhere[: max(0, index["scan"].nunique() - 1)], self._in_flight)

    def _stages_at(self, level: Level) -> _Stages:
        key = level.members, level.tta
        if key not in self._stages:
            members = [self._members[position] for position in level.members]
            self._stages[key] = _Stages(
                [member if level.tta else member.without_tta() for member in members], self._settings
            )
        return self._stages[key]

    def _plan(self, index: pd.DataFrame, budget_s: float | None) -> list[Level]:
        """The levels, with their costs where there is a budget to keep."""
        levels = plan_levels(self._members)
        if budget_s is None:
            return levels[:1]
        seconds = self._time_members(index)
        return [
            dataclasses.replace(
                level,
                cost_s=sum(
                    seconds[position] * (self._members[position].passes if level.tta else 1)
                    for position in level.members
                ),
            )
            for level in levels
        ]

    def _time_members(self, index: pd.DataFrame) -> list[float]:
        for _, slices in iterate_scans(index):
            try:
                return time_members(self._members, decode_scan(slices.head(4)), self._clock)
            except Exception:
                # whatever it is, its scan's turn comes, and with it the fault is told and counted
                continue
        return [0.0] * len(self._members)

    def _about(self, levels: Sequence[Level], budget_s: float | None) -> dict[str, object]:
        return {
            "organs": list(self.organs),
            "members": [
                {"name": member.name, "role": member.role, "weight": member.weight}
                for member in self._members
            ],
            "prediction": dataclasses.asdict(self._settings),
            "budget_s": budget_s,
            "further_devices": [name for name, _ in self._elsewhere],
            "levels": [{"name": level.name, "seconds_a_slice": level.cost_s} for level in levels],
        }


class _Stages:
    """Gate, segmenters and clean-up, as one way from a scan to its masks."""

    def __init__(self, members: Sequence[Member], settings: PredictionSettings) -> None:
        gates = [member for member in members if member.role == "gate"]
        segmenters = [member for member in members if member.role == "segment"]
        if not segmenters:
            raise SettingsError("no member of the role 'segment' was given; a gate alone draws nothing")
        # also holds gates and segmenters to the same organs
        self.organs = Ensemble(members).organs
        self._gate = Gate(Ensemble(gates), settings) if gates else None
        self._segmenters = Ensemble(segmenters)
        self._clean_up = CleanUp(settings, self.organs)

    def predict_masks(self, scan: Scan) -> np.ndarray:
        """Return (z, organ, y, x) bool; slices that the gate keeps shut cost the segmenters nothing."""
        if self._gate is None:
            return self._clean_up.apply(self._segmenters.predict(scan), scan)
        opened = self._gate.open(scan)
        probabilities = self._segmenters.predict(scan, opened.any(axis=1))
        return self._clean_up.apply(probabilities, scan, opened)


def _write_masks(folder: str | Path, index: pd.DataFrame, rows: SubmissionRows, layout: Layout) -> None:
    try:
        write_mask_pictures(folder, index, rows.rles_of, layout)
    except OSError as error:
        raise PredictionError(
            f"{folder}: not all masks could be written ({error.strerror}), but the submission is whole: make room on "
            "the disk, or name another folder, and predict again"
        ) from error


def _write(rows: SubmissionRows, output: Path, index: pd.DataFrame) -> None:
    try:
        rows.write(output, sizes=index)
    except OSError as error:
        raise PredictionError(
            f"{output} could not be replaced ({error.strerror}): the file that stands is whole, but older; "
            "make room on the disk and predict again"
        ) from error
