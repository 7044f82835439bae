"""What went wrong with which scan: fatal at once while it can be mended, counted in the hidden rerun."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gitract_kit.errors import PredictionError

__all__ = ["Fault", "FaultLog", "in_rerun"]


@dataclass(frozen=True)
class Fault:
    """One thing that went wrong."""

    scan: str
    """The scan, or "" where it is not of one."""
    error: str
    """The error's type."""
    message: str
    """What was found, with the file or id."""
    lost: bool
    """Whether rows of the scan stay empty for it."""


def in_rerun() -> bool:
    """Return whether this is Kaggle's hidden rerun, by the variable that Kaggle sets."""
    return bool(os.environ.get("KAGGLE_IS_COMPETITION_RERUN"))


class FaultLog:
    """The faults of one prediction; where it is not ``tolerant``, the first is raised."""

    def __init__(self, *, tolerant: bool) -> None:
        self.tolerant = tolerant
        self.faults: list[Fault] = []

    def note(self, error: Exception, scan: str = "", *, lost: bool = True) -> None:
        """Count ``error`` against ``scan``, or raise it."""
        if not self.tolerant:
            raise error
        self.faults.append(Fault(scan, type(error).__name__, str(error), lost))

    @property
    def lost_scans(self) -> list[str]:
        """The scans with rows that stay empty, each once."""
        return list(dict.fromkeys(fault.scan for fault in self.faults if fault.lost))

    def check_share(self, scans: int, limit: float) -> None:
        """Raise a `PredictionError` where more than ``limit`` of ``scans`` are lost."""
        lost = self.lost_scans
        if len(lost) > limit * scans:
            first = next(fault for fault in self.faults if fault.lost)
            raise PredictionError(
                f"{len(lost)} of {scans} scans failed, more than prediction.max_failed_share = {limit:g}; the first is "
                f"{first.scan or 'the test folder'}: {first.message} ({first.error}). The submission holds the others"
            )
