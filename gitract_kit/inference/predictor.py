"""From a competition folder to its submission, one scan in memory at a time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from gitract_kit.competition.layout import UW_MADISON, Layout
from gitract_kit.competition.rle import rle_encode_batch
from gitract_kit.data.scans import Scan, decode_scan, iterate_scans
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.inference.ensemble import Ensemble
from gitract_kit.inference.member import Member
from gitract_kit.inference.postprocess import apply_threshold, by_organ, drop_small_components
from gitract_kit.inference.record import PredictionSummary, ScanRecord, write_record
from gitract_kit.inference.rows import SubmissionRows, start_submission
from gitract_kit.inference.slices import find_slices
from gitract_kit.settings import PredictionSettings

__all__ = ["PredictionSummary", "Predictor"]

_SAVE_EVERY_S = 60.0


class Predictor:
    """Members, and what turns their probabilities into a submission.

    ``organs`` are the classes to predict, in the order of the members' probabilities; None takes the members' own.
    """

    def __init__(
        self,
        members: Sequence[Member],
        prediction: PredictionSettings,
        organs: Sequence[str] | None = None,
        *,
        layout: Layout = UW_MADISON,
    ) -> None:
        self._ensemble = Ensemble(members)
        self._settings = prediction
        self.organs = self._ensemble.organs
        if organs is not None and tuple(organs) != self.organs:
            raise SettingsError(
                f"the members predict {', '.join(self.organs)}, asked for were {', '.join(organs)}; "
                "take the bundle that was trained for these"
            )
        self._layout = dataclasses.replace(layout, organs=self.organs)
        self._thresholds = by_organ(prediction.threshold, self.organs, "threshold")
        self._min_px = by_organ(prediction.min_component_px, self.organs, "min_component_px")

    def predict_scan(self, scan: Scan) -> np.ndarray:
        """Return the masks of ``scan``: (z, organ, y, x) bool at its own size."""
        masks = apply_threshold(self._ensemble.predict(scan), self._thresholds)
        return drop_small_components(masks, self._min_px)

    def predict(
        self,
        root: str | Path,
        output: str | Path,
        *,
        split: str = "test",
        sample: str | Path | None = None,
        progress: bool = True,
    ) -> PredictionSummary:
        """Write the submission of ``root/split`` to ``output``, and ``run.json`` beside it.

        The rows are those of ``sample`` (for the test split else of ``root/sample_submission.csv``) in its order;
        where it is missing or a mere header, the slices' own in natural order. A valid submission stands from
        the start: first every row empty, then with what is done so far, each time replaced as a whole. Where
        there is no test scan at all, ``prediction.on_empty_test`` says what happens.
        """
        start = time.monotonic()
        output = Path(output)
        rows = start_submission(root, output, self._layout, split=split, sample=sample)
        split, index = find_slices(root, split, self._settings, self._layout, rows_wanted=len(rows) > 0)
        if len(rows):
            index = _wanted_scans(index, rows)
        else:
            rows = SubmissionRows.of_slices(index["id"], self._layout)
        records = tuple(self._predict_scans(index, rows, output, progress))
        rows.write(output, sizes=index)
        summary = PredictionSummary(output, len(rows), split, records, time.monotonic() - start)
        write_record(summary, self._about())
        return summary

    def _predict_scans(
        self, index: pd.DataFrame, rows: SubmissionRows, output: Path, progress: bool
    ) -> Iterator[ScanRecord]:
        saved = time.monotonic()
        scans = list(iterate_scans(index))
        for name, slices in tqdm(scans, desc="predicting", unit="scan", disable=not progress):
            start = time.monotonic()
            scan = decode_scan(slices)
            self._fill(rows, scan, self.predict_scan(scan))
            if time.monotonic() - saved > _SAVE_EVERY_S:
                rows.write(output)
                saved = time.monotonic()
            yield ScanRecord(name, len(slices), "full", time.monotonic() - start)

    def _fill(self, rows: SubmissionRows, scan: Scan, masks: np.ndarray) -> None:
        for number, organ in enumerate(self.organs):
            rows.fill(scan.ids, organ, rle_encode_batch(masks[:, number]))

    def _about(self) -> dict[str, object]:
        members = [{"name": member.name, "weight": member.weight} for member in self._ensemble.members]
        return {
            "organs": list(self.organs),
            "members": members,
            "prediction": dataclasses.asdict(self._settings),
        }


def _wanted_scans(index: pd.DataFrame, rows: SubmissionRows) -> pd.DataFrame:
    """The slices of the scans that rows are wanted of, whole: a slice without a row is still a neighbour."""
    wanted = index["id"].isin(rows.ids)
    without_file = set(rows.ids) - set(index["id"])
    if without_file:
        first = next(slice_id for slice_id in rows.ids if slice_id in without_file)
        raise DatasetError(
            f"{len(without_file)} ids of the sample have no file; the first is {first}: complete the test folder"
        )
    return index[index["scan"].isin(index.loc[wanted, "scan"].unique())]
