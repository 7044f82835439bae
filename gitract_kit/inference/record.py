"""What a prediction did, as ``run.json`` beside the submission tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gitract_kit.files import write_text_atomic
from gitract_kit.inference.faults import Fault
from gitract_kit.versions import package_versions

__all__ = ["PredictionSummary", "ScanRecord", "write_record"]

_FORMAT = 1


@dataclass(frozen=True)
class ScanRecord:
    """What was done to one scan."""

    scan: str
    slices: int
    done: str
    """``full`` where every member saw it with all its augmentation, else the level that the budget left, or why its
    rows are empty."""
    seconds: float


@dataclass(frozen=True)
class PredictionSummary:
    """What a prediction wrote and what it did."""

    output: Path
    rows: int
    split: str
    """The folder that was read: ``train`` where there was no test scan to predict."""
    scans: tuple[ScanRecord, ...]
    seconds: float
    faults: tuple[Fault, ...] = ()
    """What went wrong and was lived with; outside the hidden rerun nothing is."""
    rerun: bool = False
    """Whether it was Kaggle's hidden rerun."""

    def __str__(self) -> str:
        source = "" if self.split == "test" else f" of {self.split}/, as there is no test scan"
        faults = f"; {len(self.faults)} faults" if self.faults else ""
        scans = f"{len(self.scans)} scans{source} in {self.seconds:.0f} s{faults}"
        return f"{self.output}: {self.rows} rows, {scans}; what was done to which scan is in {self.record}"

    @property
    def record(self) -> Path:
        """``run.json``, beside the output."""
        return self.output.with_name("run.json")


def write_record(summary: PredictionSummary, about: Mapping[str, Any]) -> None:
    """Write ``summary``, ``about`` and the versions of what computed it to ``summary.record``."""
    done = asdict(summary) | {"output": str(summary.output)}
    record = {"format": _FORMAT, **done, **about, "versions": package_versions()}
    write_text_atomic(summary.record, json.dumps(record, indent=2) + "\n")
