"""The weighted mean of members' probabilities, at the scan's own size: the one place where they meet."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from gitract_kit.data.scans import Scan
from gitract_kit.errors import PredictionError, SettingsError
from gitract_kit.inference.member import Member, NetworkMember, predict_together

__all__ = ["Ensemble"]


class Ensemble:
    """Members as one: a member itself.

    Networks that see the same input share it, and what they say of it is brought to the scan's size once.
    """

    def __init__(self, members: Sequence[Member], *, name: str = "ensemble", weight: float = 1.0) -> None:
        _check(members)
        self.name = name
        self.organs = members[0].organs
        self.weight = weight
        self.members = tuple(members)
        self._parts = _parts_that_share(members)

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        """Return the weighted mean, (z, organ, y, x) float; the output of few members is in memory beside the sum.

        ``wanted`` (z,) bool names the slices that matter; the others may be left 0.
        """
        if len(self._parts) == 1:
            return self._answer(self._parts[0], scan, wanted)
        total_weight = sum(member.weight for member in self.members)
        mean = np.zeros(self._shape(scan), dtype=np.float32)
        for part in self._parts:
            share = sum(member.weight for member in part) / total_weight
            # no name holds the output: it is gone before the next part's comes
            _add(mean, self._answer(part, scan, wanted), share)
        return mean

    def _answer(self, part: Sequence[Member], scan: Scan, wanted: np.ndarray | None) -> np.ndarray:
        together = len(part) > 1
        probabilities = predict_together(part, scan, wanted) if together else part[0].predict(scan, wanted)
        if probabilities.shape != self._shape(scan):
            raise SettingsError(
                f"member {part[0].name} gave {probabilities.shape} for {scan.name}, expected {self._shape(scan)} "
                "(z, organ, y, x): a member answers at the scan's own size"
            )
        # a threshold would take it for "no organ", and the score would be lost without a word
        if not np.isfinite(probabilities.sum(dtype=np.float32)):
            raise PredictionError(
                f"{', '.join(member.name for member in part)} gave no number (NaN or infinite) as a probability of "
                f"{scan.name}: its weights are damaged, or its training went astray; leave it out, or train it again"
            )
        return probabilities

    def _shape(self, scan: Scan) -> tuple[int, ...]:
        return (len(scan.volume), len(self.organs), *scan.shape)


def _parts_that_share(members: Sequence[Member]) -> list[list[Member]]:
    """The members, those together that see the same."""
    parts: dict[Hashable, list[Member]] = {}
    for position, member in enumerate(members):
        sees = member.sees if isinstance(member, NetworkMember) else position
        parts.setdefault(sees, []).append(member)
    return list(parts.values())


def _add(mean: np.ndarray, probabilities: np.ndarray, share: float) -> None:
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
