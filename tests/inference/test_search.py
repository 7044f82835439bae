"""The tables a search reads hold what the metric would say, and hold it for every choice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oof_runs import ORGANS, write_run
from scipy import ndimage

from gitract_kit.competition.metric import competition_score
from gitract_kit.competition.rle import rle_encode_batch
from gitract_kit.competition.score_sums import bootstrap_interval, score_by, total_of
from gitract_kit.data.oof import HeldOutScan, RunOof, load_oof, load_runs, read_scan
from gitract_kit.data.postprocess import CleanUp
from gitract_kit.inference.search import (
    OrganSettings,
    create_grid,
    measure_settings,
    measure_weights,
    settings_by_field,
    settings_of,
)
from gitract_kit.settings import PredictionSettings


def speckled(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurred truth with smooth noise: masks of many sizes at every threshold, with specks and gaps."""
    noise = ndimage.gaussian_filter(rng.normal(size=masks.shape), (0.5, 0, 1.5, 1.5))
    blurred = ndimage.gaussian_filter(masks.astype(float), (0.5, 0, 1.5, 1.5))
    return np.clip(blurred + 1.5 * noise, 0, 1)


@pytest.fixture
def run(tmp_path: Path) -> RunOof:
    return load_oof(write_run(tmp_path / "run", speckled))


def read_all(runs: list[RunOof]) -> list[HeldOutScan]:
    return [read_scan(runs, rows) for _, rows in runs[0].index.groupby("scan", sort=False)]


def score_with_the_metric(runs: list[RunOof], weights: list[float], prediction: PredictionSettings):
    return score_scans(read_all(runs), runs[0], weights, prediction)


def score_scans(scans: list[HeldOutScan], run: RunOof, weights: list[float], prediction: PredictionSettings):
    """The score of whole scans, gated and cleaned up whole and sent through the competition's tables."""
    tables = []
    for one in scans:
        gate, opened = one.gate_mean(), None
        if gate is not None:
            reached = gate >= np.array([prediction.gate_threshold[organ] for organ in ORGANS])[:, None, None]
            counts = reached.sum(axis=(2, 3)).astype(float)
            if prediction.gate_smoothing == 3:
                padded = np.pad(counts, ((1, 1), (0, 0)), mode="edge")
                counts = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
            opened = counts > np.array([prediction.gate_min_px[organ] for organ in ORGANS]) - 0.01
        masks = CleanUp(prediction, ORGANS).apply(one.mean(weights), one.scan, opened)
        columns = {organ: rle_encode_batch(masks[:, k]) for k, organ in enumerate(ORGANS)}
        tables.append(
            pd.DataFrame({"id": one.scan.ids, **columns}).melt("id", var_name="class", value_name="predicted")
        )
    truth = run.index.melt("id", list(ORGANS), "class", "segmentation")
    return competition_score(truth, pd.concat(tables), run.index, organs=ORGANS)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"fill_gaps": True, "max_distance_mm": 6.0},
        {"gate_smoothing": 3, "fill_gaps": True},
        {"exclusive": True},
    ],
)
def test_every_choice_scores_in_the_table_as_in_the_metric(run: RunOof, extra: dict[str, object]):
    prediction = PredictionSettings(threshold=0.45, **extra)
    grid = [
        OrganSettings(0.45, 25, 0, 0),
        OrganSettings(0.2, 0, 0, 0),
        OrganSettings(0.35, 10, 40, 0),
        OrganSettings(0.6, 0, 0, 60),
        OrganSettings(0.9, 0, 200, 0),
        OrganSettings(0.35, 0, 0, 0, own_gate_threshold=0.7, own_gate_min_px=60),
        OrganSettings(0.5, 0, 0, 0, own_gate_threshold=0.3, own_gate_min_px=150),
    ]
    table = np.stack([measure_settings(one, [1.0], prediction, ORGANS, grid) for one in read_all([run])])
    totals = set()
    for first in range(len(grid)):
        second = (first + 2) % len(grid)
        chosen = settings_by_field([grid[first], grid[second]], ORGANS)
        score = score_with_the_metric([run], [1.0], dataclasses.replace(prediction, **chosen))
        found = total_of((table[:, 0, first] + table[:, 1, second]).sum(axis=0))
        assert found == pytest.approx(score.total, abs=1e-12)
        totals.add(round(score.total, 6))
    assert len(totals) == len(grid), "choices that score alike would hide a mix-up"


@pytest.mark.parametrize("exclusive", [False, True])
def test_every_weighting_scores_in_the_table_as_in_the_metric(tmp_path: Path, exclusive: bool):
    runs = load_runs(
        [write_run(tmp_path / "one", speckled, seed=1), write_run(tmp_path / "other", speckled, seed=2)]
    )
    prediction = PredictionSettings(threshold={"round": 0.3, "square": 0.5}, exclusive=exclusive)
    points = [(0.5, 0.5), (1.0, 0.0), (0.25, 0.75)]
    table = np.stack([measure_weights(one, points, prediction, ORGANS) for one in read_all(runs)])
    for number, point in enumerate(points):
        score = score_with_the_metric(runs, list(point), prediction)
        assert total_of(table[:, :, number].sum(axis=(0, 1))) == pytest.approx(score.total, abs=1e-12)


@pytest.mark.parametrize("smoothing", [1, 3])
def test_every_limit_of_a_gate_scores_in_the_table_as_in_the_metric(tmp_path: Path, smoothing: int):
    run = load_oof(write_run(tmp_path / "run", speckled))
    gate = load_oof(write_run(tmp_path / "gate", speckled, seed=5))
    prediction = PredictionSettings(threshold=0.45, gate_smoothing=smoothing)
    limits = [(0.5, 1), (0.5, 100), (0.8, 20), (0.2, 300)]
    grid = [OrganSettings(0.45, 25, 0, 0, gate_threshold=level, gate_min_px=px) for level, px in limits]
    scans = [read_scan([run], rows, [gate]) for _, rows in run.index.groupby("scan", sort=False)]
    table = sum(measure_settings(one, [1.0], prediction, ORGANS, grid) for one in scans)
    totals = set()
    for number, one in enumerate(grid):
        chosen = dataclasses.replace(prediction, **settings_by_field([one, one], ORGANS))
        score = score_scans(scans, run, [1.0], chosen)
        assert total_of(table[:, number].sum(axis=0)) == pytest.approx(score.total, abs=1e-12)
        weighed = sum(measure_weights(scan, [[1.0]], chosen, ORGANS) for scan in scans)
        assert total_of(weighed[:, 0].sum(axis=0)) == pytest.approx(score.total, abs=1e-12)
        totals.add(round(score.total, 6))
    assert len(totals) == len(grid), "limits that score alike would hide a mix-up"


def test_empty_organ_on_both_sides_adds_nothing(tmp_path: Path):
    run = load_oof(write_run(tmp_path / "run", lambda masks, _: np.zeros(masks.shape)))
    held_out = read_all([run])[0]
    held_out.masks_true[:] = False
    sums = measure_settings(held_out, [1.0], PredictionSettings(), ORGANS, [OrganSettings(0.5, 0, 0, 0)])
    np.testing.assert_array_equal(sums, 0.0)
    assert np.isnan(total_of(sums.sum(axis=(0, 1))))


def test_grid_holds_the_own_settings_of_every_organ():
    prediction = PredictionSettings(threshold={"round": 0.33, "square": 0.5}, min_component_px=7)
    own = settings_of(prediction, ORGANS)
    grid = create_grid(prediction, ORGANS)
    assert own == [OrganSettings(0.33, 7, 0, 0), OrganSettings(0.5, 7, 0, 0)]
    assert set(own) <= set(grid)
    assert len(set(grid)) == len(grid)


def test_settings_by_field_are_read_back_the_same():
    settings = [OrganSettings(0.3, 1, 2, 3, 0.7, 8, 0.6, 9), OrganSettings(0.6, 4, 5, 6, 0.9, 7, 0.2, 5)]
    prediction = PredictionSettings(**settings_by_field(settings, ORGANS))
    assert settings_of(prediction, ORGANS) == settings


def make_parts(totals: np.ndarray, days: int = 1) -> pd.DataFrame:
    """Parts of cases whose Dice, and 1 - distance, are ``totals``; each case has as many equal days."""
    return pd.DataFrame(
        [
            {
                "case": f"case{number}",
                "scan": f"case{number}_day{day}",
                "dice_sum": 10 * value,
                "dice_rows": 10,
                "hausdorff": 1 - value,
            }
            for number, value in enumerate(totals)
            for day in range(days)
        ]
    )


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(100):
        parts = make_parts(rng.beta(8, 2, size=40))
        low, high = bootstrap_interval(parts, resamples=300, seed=trial)["total"]
        covered += low <= 0.8 <= high
    assert 0.88 <= covered / 100 <= 1.0


def test_interval_has_the_width_that_theory_gives():
    values = np.random.default_rng(3).beta(8, 2, size=60)
    found = bootstrap_interval(make_parts(values), resamples=3000)
    error = values.std() / np.sqrt(len(values))
    expected = [values.mean() - 1.96 * error, values.mean() + 1.96 * error]
    np.testing.assert_allclose(found["total"], expected, atol=0.25 * error)
    np.testing.assert_allclose(found["hausdorff"], 1 - np.array(found["dice"])[::-1], atol=1e-9)


def test_further_days_of_the_same_cases_do_not_narrow_the_interval():
    values = np.random.default_rng(4).beta(8, 2, size=20)
    found, expected = bootstrap_interval(make_parts(values, days=4)), bootstrap_interval(make_parts(values))
    np.testing.assert_allclose(found["total"], expected["total"], atol=1e-12)


def test_interval_is_the_same_for_the_same_seed_and_another_for_another():
    parts = make_parts(np.random.default_rng(5).beta(8, 2, size=20))
    assert bootstrap_interval(parts, seed=1) == bootstrap_interval(parts, seed=1)
    assert bootstrap_interval(parts, seed=1) != bootstrap_interval(parts, seed=2)


def test_one_case_has_no_interval():
    assert bootstrap_interval(make_parts(np.array([0.5]), days=3)) is None


def test_groups_score_as_the_pooled_rows_of_their_scans():
    parts = make_parts(np.array([0.5, 1.0, 0.0])).assign(fold=[0, 0, 1])
    parts.loc[2, "hausdorff"] = np.nan
    parts["dice_rows"] = [10, 40, 10]
    table = score_by(parts, "fold")
    assert table.loc[0, "dice"] == pytest.approx(15 / 50)
    assert table.loc[0, "hausdorff"] == pytest.approx(0.25)
    assert table.loc[0, "total"] == pytest.approx(0.4 * 0.3 + 0.6 * 0.75)
    assert np.isnan(table.loc[1, "total"])
    assert table["scans"].tolist() == [2, 1]
