"""The weighted mean of members' probabilities, at the scan's own size: the one place where they meet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gitract_kit.data.scans import Scan
from gitract_kit.errors import SettingsError
from gitract_kit.inference.member import Member

__all__ = ["Ensemble"]


class Ensemble:
    """Members as one: a member itself."""

    def __init__(self, members: Sequence[Member], *, name: str = "ensemble", weight: float = 1.0) -> None:
        _check(members)
        self.name = name
        self.organs = members[0].organs
        self.weight = weight
        self.members = tuple(members)

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        """Return the weighted mean, (z, organ, y, x) float32; one member's output is in memory beside the sum.

        ``wanted`` (z,) bool names the slices that matter; the others may be left 0.
        """
        total_weight = sum(member.weight for member in self.members)
        mean = np.zeros((len(scan.volume), len(self.organs), *scan.shape), dtype=np.float32)
        for member in self.members:
            # no name holds the output: it is gone before the next member's comes
            _add(mean, member.predict(scan, wanted), member, scan, member.weight / total_weight)
        return mean


def _add(mean: np.ndarray, probabilities: np.ndarray, member: Member, scan: Scan, share: float) -> None:
    if probabilities.shape != mean.shape:
        raise SettingsError(
            f"member {member.name} gave {probabilities.shape} for {scan.name}, expected {mean.shape} "
            "(z, organ, y, x): a member answers at the scan's own size"
        )
    # slice by slice: the product of a whole scan would be another scan's worth of memory
    for plane, added in zip(mean, probabilities, strict=True):
        plane += np.float32(share) * added


def _check(members: Sequence[Member]) -> None:
    if not members:
        raise SettingsError("an ensemble of no members was asked for; give it one at least")
    for member in members:
        if tuple(member.organs) != tuple(members[0].organs):
            raise SettingsError(
                f"member {member.name} predicts {', '.join(member.organs)}, member {members[0].name} "
                f"{', '.join(members[0].organs)}; only members of the same organs in the same order average"
            )
        if not (math.isfinite(member.weight) and member.weight > 0):
            raise SettingsError(f"member {member.name} has the weight {member.weight}; it must be over 0")
