"""What Kaggle would say to an act of a rehearsal, in its own words, and what the act tells beside that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.metric import competition_score
from gitract_kit.competition.submission import check_submission, read_submission
from gitract_kit.competition.tables import read_labels
from gitract_kit.errors import DatasetError, SubmissionError
from gitract_kit.shipping.acts import Limits, Played

__all__ = ["ActReport", "HiddenTest", "judge_act", "read_hidden_test"]

HIDDEN_CASES = 50
# the training set's 38,496 slices of 85 cases (competition page, public EDA)
HIDDEN_SLICES = round(HIDDEN_CASES * 38_496 / 85)
"""About as many slices as the hidden test has."""


@dataclass(frozen=True)
class HiddenTest:
    """The test set of a rehearsal, as the grader knows it and the notebook does not."""

    sample: Path
    sizes: pd.DataFrame
    """Index of the test folder."""
    truth: pd.DataFrame | None
    """``id``, ``class``, ``segmentation``; None where the truth is not known."""


@dataclass(frozen=True)
class ActReport:
    """The verdict on one act."""

    played: Played
    fault: str | None
    """What Kaggle would say, and why; None where the act passed."""
    score: float | None
    """Of a hidden rerun whose truth is known."""
    record: Mapping[str, Any]
    """``run.json`` of the prediction, or nothing where there is none of the kit's."""

    @property
    def remarks(self) -> list[str]:
        """What a passed act did less well than it could."""
        faults = [
            f"{fault['scan'] or 'test folder'}: {fault['message']}" for fault in self.record.get("faults", ())
        ]
        levels = [scan["done"] for scan in self.record.get("scans", ())]
        lesser = [level for level in dict.fromkeys(levels) if level != "full" and "failed" not in level]
        return faults + [f"{levels.count(level)} of {len(levels)} scans: {level}" for level in lesser]

    @property
    def hidden_seconds(self) -> float | None:
        """How long the hidden test's slices would take at this rate, start-up included."""
        slices = sum(scan["slices"] for scan in self.record.get("scans", ()))
        if not (self.played.act.rerun and slices):
            return None
        predicting = self.record["seconds"]
        return self.played.run.seconds - predicting + predicting * HIDDEN_SLICES / slices


def read_hidden_test(competition: Path, truth: Path | None) -> HiddenTest:
    """Return what the grader needs of ``competition``; ``truth`` is a table like train.csv.

    Without one it is ``solution.csv`` beside the competition's folder, where `gitract phantom` leaves it.
    """
    beside = competition.resolve().parent / "solution.csv"
    truth = truth or (beside if beside.is_file() else None)
    labels = None if truth is None else read_labels(truth).melt("id", list(ORGANS), "class", "segmentation")
    return HiddenTest(competition / "sample_submission.csv", build_index(competition, "test"), labels)


def judge_act(played: Played, hidden: HiddenTest, limits: Limits) -> ActReport:
    """Return the verdict on ``played``, the hidden rerun's held against ``hidden``."""
    fault = _notebook_fault(played, limits)
    score = None
    if fault is None:
        try:
            score = _grade(played, hidden)
        except (SubmissionError, DatasetError) as error:
            fault = f"Submission Scoring Error: {error}"
    return ActReport(played, fault, score, _read_record(played.working / "run.json"))


def _read_record(path: Path) -> Mapping[str, Any]:
    """What the kit's prediction left; a file of the notebook's own under that name counts as none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if _is_record(record) else {}


def _is_record(value: Any) -> bool:
    match value:
        case {"seconds": int() | float(), "scans": list(scans), "faults": list(faults)}:
            return all(map(_is_scan, scans)) and all(map(_is_fault, faults))
    return False


def _is_scan(value: Any) -> bool:
    match value:
        case {"slices": int(), "done": str()}:
            return True
    return False


def _is_fault(value: Any) -> bool:
    match value:
        case {"scan": str() | None, "message": str()}:
            return True
    return False


def _notebook_fault(played: Played, limits: Limits) -> str | None:
    if played.run.stopped == "time":
        return f"Notebook Timeout: it ran longer than {limits.seconds:,.0f} s"
    if played.run.stopped == "memory":
        return f"Exceeded Allowed Compute: it held more than {limits.memory_bytes / 2**30:.1f} GiB of memory"
    if played.error:
        return "Notebook Threw Exception: {}: {}".format(*played.error)
    if not played.submission.is_file():
        return "Submission CSV Not Found: the notebook ended without submission.csv"
    if played.network:
        return f"it reached for the network, which is not there: {', '.join(dict.fromkeys(played.network))}"
    if played.written_input:
        return f"it wrote to its input, which is read-only: {played.written_input[0]}"
    return None


def _grade(played: Played, hidden: HiddenTest) -> float | None:
    if not played.act.rerun:
        # the first save is not scored: its file must be there and be a submission
        read_submission(played.submission)
        return None
    check_submission(played.submission, hidden.sample, hidden.sizes)
    if hidden.truth is None:
        return None
    return competition_score(hidden.truth, read_submission(played.submission), hidden.sizes).total
