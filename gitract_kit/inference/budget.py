"""A time budget: what is still done for a scan so that the whole run ends in time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gitract_kit.data.scans import Scan
from gitract_kit.inference.member import Member

__all__ = ["Budget", "Level", "plan_levels", "time_members"]

Clock = Callable[[], float]

_PROBE_SLICES = 4
# decoding, clean-up and encoding beside the network, until the first scans tell
_FIRST_RATE = 1.5
_MARGIN = 1.05
# going back to a dearer level wants more room than staying, or the plan would swing with every scan
_MARGIN_UP = 1.2
_RECENT = 5
# for the last write: a share of the budget, and at most a minute
_RESERVE_SHARE, _RESERVE_S = 0.02, 60.0


@dataclass(frozen=True)
class Level:
    """One way to predict a scan, of several that cost less and less."""

    name: str
    """What the log and ``run.json`` call it."""
    members: tuple[int, ...]
    """Positions of the members that take part."""
    tta: bool
    """Whether they look at all their views or at one."""
    cost_s: float = 0.0
    """Seconds a slice that its forward passes take, as timed before the first scan."""


def plan_levels(members: Sequence[Member]) -> list[Level]:
    """Return the levels of an ensemble, dearest first: full, without TTA, fewer folds, fewer members.

    Members of one group are folds of one network. The last level keeps one member of the heaviest group that
    segments, beside one of each group that gates.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for position, member in enumerate(members):
        groups.setdefault((member.role, member.group), []).append(position)
    everyone = sorted(fold for group in groups.values() for fold in group)
    halved = sorted(fold for group in groups.values() for fold in group[: math.ceil(len(group) / 2)])
    single = sorted(group[0] for group in groups.values())
    weights = {key: sum(members[fold].weight for fold in group) for key, group in groups.items()}
    heaviest = max((key for key in groups if key[0] == "segment"), key=weights.__getitem__, default=None)
    last = sorted(group[0] for key, group in groups.items() if key == heaviest or key[0] == "gate")
    augmented = any(member.passes > 1 for member in members)
    levels = [
        Level("full", tuple(everyone), tta=augmented),
        Level("without TTA", tuple(everyone), tta=False),
        Level("half of the folds", tuple(halved), tta=False),
        Level("one fold of each network", tuple(single), tta=False),
        Level("one member", tuple(last), tta=False),
    ]
    # of levels that do the same the first names it
    return list({(level.members, level.tta): level for level in reversed(levels)}.values())[::-1]


def time_members(members: Sequence[Member], scan: Scan, clock: Clock) -> list[float]:
    """Return the seconds that each member takes for a slice without TTA, timed on a few slices of ``scan``."""
    few = _cut(scan, min(_PROBE_SLICES, len(scan.volume)))
    seconds = []
    for member in members:
        plain = member.without_tta()
        # the first call also loads kernels and picks algorithms
        plain.predict(_cut(scan, 1))
        start = clock()
        plain.predict(few)
        seconds.append((clock() - start) / len(few.volume))
    return seconds


def _cut(scan: Scan, slices: int) -> Scan:
    return replace(
        scan, ids=scan.ids[:slices], slice_numbers=scan.slice_numbers[:slices], volume=scan.volume[:slices]
    )


class Budget:
    """Decides before each scan how it is predicted, so that ``budget_s`` seconds from ``start`` are not overrun.

    ``levels`` carry their costs; how many seconds a second of cost really takes is learned from the scans that are
    done. Where even the last level does not fit, the answer is None: the scan's rows stay empty. Of several
    ``devices`` one may still have two scans to do when the others are idle.
    """

    def __init__(
        self, budget_s: float, levels: Sequence[Level], clock: Clock, start: float, devices: int = 1
    ) -> None:
        self._deadline = start + budget_s - min(_RESERVE_SHARE * budget_s, _RESERVE_S)
        self._levels = levels
        self._clock = clock
        self._alone = 2 * (devices - 1)
        self._begun: float | None = None
        self._in_flight = 0.0
        self._finished: list[tuple[float, float]] = []
        self._rate = _FIRST_RATE / devices
        self._level = 0

    @property
    def full(self) -> Level:
        """The level of a run with time enough."""
        return self._levels[0]

    def choose(self, slices: int, remaining: int) -> Level | None:
        """Return the level for the next scan of ``slices``, the first of ``remaining`` slices that are not begun."""
        for number, level in enumerate(self._levels):
            margin = _MARGIN_UP if number < self._level else _MARGIN
            if self._fits(level.cost_s * (remaining + self._alone * slices), margin):
                return self._begin(number, slices)
        # not everything fits any more: then whatever still does
        last = len(self._levels) - 1
        work = self._levels[last].cost_s * (1 + self._alone) * slices
        return self._begin(last, slices) if self._fits(work, _MARGIN) else None

    def finish(self, level: Level, slices: int, *, failed: bool = False) -> None:
        """Learn from a scan that is done; one that failed says nothing about the rate."""
        work = level.cost_s * slices
        self._in_flight -= work
        if failed or not work:
            return
        done = self._finished[-1][1] if self._finished else 0.0
        self._finished.append((self._clock(), done + work))
        self._rate = max(self._rate_since(0), self._rate_since(len(self._finished) - _RECENT))

    def _rate_since(self, first: int) -> float:
        """Seconds that a second of cost took, over the scans finished from position ``first`` on."""
        before = self._finished[first - 1] if first > 0 else (self._begun, 0.0)
        now, done = self._finished[-1]
        return (now - before[0]) / (done - before[1])

    def _fits(self, work: float, margin: float) -> bool:
        return self._clock() + margin * self._rate * (self._in_flight + work) <= self._deadline

    def _begin(self, number: int, slices: int) -> Level:
        if self._begun is None:
            self._begun = self._clock()
        self._level = number
        self._in_flight += self._levels[number].cost_s * slices
        return self._levels[number]
