"""Choices: the best is found where it is known, and noise is seen to be noise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gitract_kit.competition.score_sums import total_of
from gitract_kit.inference.fitting import (
    Fitted,
    fit_settings,
    fit_weights,
    judge,
    simplex_around,
    simplex_grid,
)


def make_table(rng: np.random.Generator, scans: int, organs: int, choices: int) -> np.ndarray:
    """(scan, organ, choice, 4) of random Dice and distances; rows and volumes differ from choice to choice."""
    rows = rng.integers(5, 60, (scans, organs, choices)).astype(float)
    volumes = rng.integers(0, 2, (scans, organs, choices)).astype(float)
    return np.stack([rows * rng.random(rows.shape), rows, volumes * rng.random(rows.shape), volumes], axis=-1)


def test_search_by_organ_finds_what_trying_everything_finds():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(30):
        sums = make_table(rng, 12, 3, 6).sum(axis=0)
        picks = fit_settings([0, 0, 0])(sums)
        every = [
            total_of(sums[[0, 1, 2], list(one)].sum(axis=0)) for one in itertools.product(range(6), repeat=3)
        ]
        total = total_of(sums[[0, 1, 2], picks].sum(axis=0))
        # no change of one organ helps further; that none of several does either is nearly always true
        assert total >= np.max(every) - 0.01
        found += total >= np.max(every) - 1e-12
    assert found >= 27


def test_choices_that_gain_nothing_stay_at_the_start():
    sums = np.tile([8.0, 10.0, 0.1, 1.0], (2, 5, 1))
    assert fit_settings([3, 1])(sums) == [3, 1]


def test_search_picks_the_best_of_what_is_allowed():
    sums = np.zeros((2, 4, 4))
    sums[:] = [5.0, 10.0, 0.2, 1.0]
    sums[:, 1, 0], sums[:, 3, 0] = 9.0, 7.0
    assert fit_settings([0, 2])(sums) == [1, 1]
    assert fit_settings([0, 2], [0, 2, 3])(sums) == [3, 3]


def test_start_without_a_score_is_left():
    sums = np.zeros((1, 2, 4))
    sums[0, 1] = [5.0, 10.0, 0.2, 1.0]
    assert fit_settings([0])(sums) == [1]


def test_gain_of_noise_is_seen_where_it_was_fitted_and_not_on_what_was_left_out():
    rng = np.random.default_rng(1)
    fitted, left_out = [], []
    for _ in range(20):
        table = make_table(rng, 30, 2, 100)
        groups = [number % 5 for number in range(30)]
        found = judge(table, groups, [0, 0], fit_settings([0, 0]))
        fitted.append(found.fitted_total - found.own_total)
        left_out.append(found.left_out_total - found.own_total)
    assert min(fitted) > 0
    assert np.mean(fitted) > 0.05
    assert abs(np.mean(left_out)) < 0.03
    assert np.mean(left_out) < np.mean(fitted) / 5


def test_gain_that_every_scan_agrees_on_is_kept():
    table = np.zeros((9, 2, 3, 4))
    table[..., 1], table[..., 3] = 10.0, 1.0
    table[..., 0] = [5.0, 9.0, 2.0]
    found = judge(table, list("aaabbbccc"), [0, 0], fit_settings([0, 0]))
    assert found.picks == [1, 1]
    assert found.left_out_total == found.fitted_total == pytest.approx(0.4 * 0.9 + 0.6)
    assert found.kept
    assert list(found.picks_without) == ["a", "b", "c"]


def test_picks_of_a_group_left_out_do_not_know_it():
    table = np.zeros((4, 1, 2, 4))
    table[..., 1], table[..., 3] = 10.0, 1.0
    table[..., 0] = 5.0
    # one scan that gains so much that it decides alone, where it is there
    table[3, 0, 1, 0], table[:3, 0, 1, 0] = 10.0, 4.0
    found = judge(table, [0, 1, 2, 3], [0], fit_settings([0]))
    assert found.picks == [1]
    assert found.picks_without == {0: [1], 1: [1], 2: [1], 3: [0]}
    assert found.left_out_total == pytest.approx(0.4 * (4 + 4 + 4 + 5) / 40 + 0.6)
    assert not found.kept


def test_one_group_leaves_nothing_to_judge_by():
    table = np.zeros((2, 1, 2, 4))
    table[..., 1], table[..., 3] = 10.0, 1.0
    table[..., 1, 0] = 9.0
    found = judge(table, ["only", "only"], [0], fit_settings([0]))
    assert (found.picks, found.left_out_total, found.kept) == ([1], None, False)
    assert found.describe("settings", list)["left_out_gain"] is None


@pytest.mark.parametrize("n_runs", [2, 3, 4])
def test_weightings_lie_on_the_simplex_and_are_tried_once(n_runs: int):
    points = simplex_grid(n_runs)
    for point in [*points, *itertools.chain(*map(simplex_around, points))]:
        assert len(point) == n_runs
        assert sum(point) == pytest.approx(1.0)
        assert min(point) >= 0
    assert len(set(points)) == len(points)
    assert points[0] == (1 / n_runs,) * n_runs
    assert {tuple(row) for row in np.eye(n_runs)} <= set(points)


def tabulate_peak(points, *, peak: tuple[float, ...], organs: int = 2, scans: int = 6) -> np.ndarray:
    """A table whose score falls with the distance of a weighting from ``peak``."""
    away = np.linalg.norm(np.array(points) - peak, axis=1)
    table = np.ones((scans, organs, len(points), 4))
    table[..., 0], table[..., 2] = 1 - away / 2, away / 2
    return table


@pytest.mark.parametrize("peak", [(0.6875, 0.3125), (0.0, 1.0), (0.3125, 0.4375, 0.25)])
def test_weights_are_found_between_the_points_of_the_coarse_grid(peak: tuple[float, ...]):
    asked = []

    def tabulate(points):
        asked.append(len(points))
        return tabulate_peak(points, peak=peak)

    points, found = fit_weights(tabulate, len(peak), [0, 0, 1, 1, 2, 2])
    assert np.linalg.norm(np.array(points[found.picks[0]]) - peak) <= 1 / 16
    assert found.kept
    assert len(set(found.picks)) == 1
    assert (len(asked), sum(asked)) == (2, len(points))


def test_equal_weights_stay_where_none_are_better():
    points, found = fit_weights(lambda points: tabulate_peak(points, peak=(0.5, 0.5)), 2, [0, 0, 0, 1, 1, 1])
    assert points[found.picks[0]] == (0.5, 0.5)
    assert not found.kept


@pytest.mark.parametrize(("gain", "kept"), [(1e-6, True), (2e-16, False), (0.0, False), (-1e-6, False)])
def test_the_last_bit_of_no_gain_does_not_decide(gain, kept):
    assert Fitted([0], 0.9, 0.95, 0.9 + gain, {}).kept is kept
