"""The lead of one run over another, drawn from the same cases for both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gitract_kit.competition.score_sums import bootstrap_interval, bootstrap_lead


def make_parts(dice: np.ndarray) -> pd.DataFrame:
    """One scan a case, one organ, ten rows; the distance is 1 - Dice, so that the total is the Dice."""
    names = [f"case{number}" for number in range(len(dice))]
    columns = {"scan": names, "case": names, "dice_sum": dice * 10, "dice_rows": 10, "hausdorff": 1 - dice}
    return pd.DataFrame(columns)


def test_a_lead_in_every_case_is_sure_however_unlike_the_cases_are():
    values = np.random.default_rng(0).uniform(0.1, 0.8, 20)
    better, worse = make_parts(values + 0.05), make_parts(values)
    assert bootstrap_lead(better, worse) == pytest.approx([0.05, 0.05])
    assert bootstrap_lead(worse, better) == pytest.approx([-0.05, -0.05])
    low, high = bootstrap_interval(better)["total"]
    assert high - low > 0.1


def test_a_lead_has_the_width_that_theory_gives():
    rng = np.random.default_rng(1)
    values, gains = rng.uniform(0.1, 0.8, 60), rng.normal(0.02, 0.05, 60)
    found = bootstrap_lead(make_parts(values + gains), make_parts(values), resamples=3000)
    error = gains.std() / np.sqrt(60)
    np.testing.assert_allclose(
        found, [gains.mean() - 1.96 * error, gains.mean() + 1.96 * error], atol=0.25 * error
    )


def test_the_order_of_the_cases_does_not_matter():
    rng = np.random.default_rng(2)
    one, other = (make_parts(rng.uniform(0.2, 0.9, 12)) for _ in range(2))
    assert bootstrap_lead(one, other.iloc[::-1]) == pytest.approx(bootstrap_lead(one, other))


def test_one_case_has_no_lead():
    assert bootstrap_lead(make_parts(np.array([0.5])), make_parts(np.array([0.4]))) is None
