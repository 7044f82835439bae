"""Choices fitted to some scans and judged on others, in tables of sums: nothing is read again.

A table is (scan, organ, choice, 4): what a scan adds to the score (`score_sums`) for each organ and choice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gitract_kit.competition.score_sums import total_of

__all__ = ["Fitted", "Point", "fit_settings", "fit_weights", "judge", "simplex_around", "simplex_grid"]

_COARSE = 4  # parts of the simplex's coarse grid
_FINE_STEPS = (1 / 16, 1 / 8, 3 / 16)
_MOST_SWEEPS = 20
_NO_GAIN = 1e-9

Picks = list[int]
"""The choice made for each organ."""
Fit = Callable[[np.ndarray], Picks]
"""From sums (organ, choice, 4) to the picks that suit them."""
Point = tuple[float, ...]
"""A weight a run; they sum to 1."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Picks fitted to all scans, and what such picks are worth on scans that had no part in them."""

    picks: Picks
    own_total: float
    """The score before anything was chosen."""
    fitted_total: float
    """The score under ``picks``, of the very scans that they were fitted to."""
    left_out_total: float | None
    """The score of all scans, each group under the picks fitted to the others; None where there is one group."""
    picks_without: dict[Hashable, Picks]
    """The picks that were fitted without each group."""

    @property
    def kept(self) -> bool:
        """Whether scans that had no part in the choice gain by it."""
        # the two are summed in different orders: the last bit of no gain at all must not decide
        return self.left_out_total is not None and self.left_out_total > self.own_total + _NO_GAIN

    def describe(self, name: str, describe_picks: Callable[[Picks], Any]) -> dict[str, Any]:
        """Return all of this for a JSON file; the picks are called ``name``."""
        left_out = self.left_out_total
        return {
            "kept": self.kept,
            "own_total": self.own_total,
            "fitted_total": self.fitted_total,
            "fitted_gain": self.fitted_total - self.own_total,
            "left_out_total": left_out,
            "left_out_gain": None if left_out is None else left_out - self.own_total,
            name: describe_picks(self.picks),
            "without_group": [
                {"left_out": group, name: describe_picks(picks)}
                for group, picks in self.picks_without.items()
            ],
        }


def judge(table: np.ndarray, groups: Sequence[Hashable], start: Picks, fit: Fit) -> Fitted:
    """Fit to all scans, and to all but each group in turn; ``groups`` names each scan's group."""
    names = list(dict.fromkeys(groups))
    membership = np.array([names.index(group) for group in groups])
    sums = np.stack([table[membership == number].sum(axis=0) for number in range(len(names))])
    everything = sums.sum(axis=0)
    picks = fit(everything)
    without, left_out_total = {}, None
    if len(names) > 1:
        without = {name: fit(everything - one) for name, one in zip(names, sums, strict=True)}
        pooled = sum(_take(one, without[name]) for name, one in zip(names, sums, strict=True))
        left_out_total = float(total_of(pooled))
    own_total, fitted_total = (float(total_of(_take(everything, one))) for one in (start, picks))
    return Fitted(picks, own_total, fitted_total, left_out_total, without)


def fit_settings(start: Picks, allowed: Sequence[int] | None = None) -> Fit:
    """Return the search that begins at ``start`` and goes through the organs in turn until none gains.

    It picks from the choices ``allowed`` alone, of which those of ``start`` are some; None allows all.
    """

    def fit(sums: np.ndarray) -> Picks:
        picks = list(start)
        choices = list(range(sums.shape[1]) if allowed is None else allowed)
        for _ in range(_MOST_SWEEPS):
            before = list(picks)
            for organ in range(len(picks)):
                others = _take(sums, picks) - sums[organ, picks[organ]]
                totals = total_of(sums[organ, choices] + others)
                picks[organ] = choices[_best(totals, choices.index(picks[organ]))]
            if picks == before:
                break
        return picks

    return fit


def fit_weights(
    tabulate: Callable[[Sequence[Point]], np.ndarray], n_runs: int, groups: Sequence[Hashable]
) -> tuple[list[Point], Fitted]:
    """Return the weightings that were tried, the equal one first, and which of them was picked for all organs.

    ``tabulate`` gives the table of some weightings; it is asked twice, for a coarse grid and for the surroundings of
    what each fit picks there.
    """
    coarse = simplex_grid(n_runs)
    table = tabulate(coarse)
    start = [0] * table.shape[1]
    first = judge(table, groups, start, lambda sums: _one_for_all(sums, range(len(coarse))))
    around = {pick: simplex_around(coarse[pick]) for pick, *_ in (first.picks, *first.picks_without.values())}
    fine = sorted(set(itertools.chain(*around.values())) - set(coarse))
    if fine:
        table = np.concatenate([table, tabulate(fine)], axis=2)
    points = [*coarse, *fine]

    def fit(sums: np.ndarray) -> Picks:
        best, *_ = _one_for_all(sums, range(len(coarse)))
        # not all fine points: the others are there because scans that are left out here led to them
        near = [points.index(point) for point in around[best]]
        return _one_for_all(sums, [*range(len(coarse)), *near])

    return points, judge(table, groups, start, fit)


def simplex_grid(n_runs: int) -> list[Point]:
    """Return weightings of ``n_runs`` runs: the equal one first, then all in quarters."""
    equal = (1.0 / n_runs,) * n_runs
    parts = itertools.product(range(_COARSE + 1), repeat=n_runs)
    quarters = [tuple(part / _COARSE for part in one) for one in parts if sum(one) == _COARSE]
    return [equal, *(point for point in quarters if point != equal)]


def simplex_around(point: Point) -> list[Point]:
    """Return weightings close to ``point``: up to 3/16 moved from one run to another."""
    around = []
    for giver, taker in itertools.permutations(range(len(point)), 2):
        for step in _FINE_STEPS:
            if step <= point[giver]:
                moved = list(point)
                moved[giver] -= step
                moved[taker] += step
                around.append(tuple(moved))
    return around


def _take(sums: np.ndarray, picks: Picks) -> np.ndarray:
    """The sums (4,) of all organs under their picks."""
    return sums[np.arange(len(picks)), picks].sum(axis=0)


def _one_for_all(sums: np.ndarray, allowed: Sequence[int]) -> Picks:
    """The pick of ``allowed`` that suits all organs together, the first where none is better."""
    allowed = list(allowed)
    return [allowed[_best(total_of(sums.sum(axis=0)[allowed]), 0)]] * len(sums)


def _best(totals: np.ndarray, current: int) -> int:
    """The place of the highest total; ``current`` where none is higher."""
    if np.isnan(totals).all():
        return current
    best = int(np.nanargmax(totals))
    return current if totals[best] <= totals[current] + 1e-12 else best
