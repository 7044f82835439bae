"""The score: held to its definition, written once more and slower; the variants; the counts."""

from __future__ import annotations

import math
import os
import re

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import directed_hausdorff

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.metric import VARIANTS, Score, competition_score, dice_coefficient
from gitract_kit.competition.rle import rle_encode
from gitract_kit.errors import InputError, SettingsError

TOLERANCE = 1e-12
SHAPE = (14, 17)
DEPTHS = {"case7_day0": 6, "case7_day12": 9, "case101_day3": 4}


def slow_scores(
    truth: pd.DataFrame, prediction: pd.DataFrame, sizes: pd.DataFrame
) -> dict[str, tuple[float, float, float]]:
    """Total, Dice and distance by variant over the ids that both tables have: the definition, without the kit."""
    true = {(row.id, row[1]): row.segmentation for row in _tuples(truth, "segmentation")}
    pred = {(row.id, row[1]): row.predicted for row in _tuples(prediction, "predicted")}
    shapes = dict(zip(sizes.id, zip(sizes.height, sizes.width, strict=True), strict=True))
    slices: dict[str, list[str]] = {}
    for slice_id in sorted({slice_id for slice_id, _ in true}):
        slices.setdefault(slice_id.split("_slice_")[0], []).append(slice_id)

    dice, by_organ, joined = [], [], []
    for ids in slices.values():
        z = [i for i, slice_id in enumerate(ids) if (slice_id, ORGANS[0]) in pred]
        masks = np.zeros((2, len(ORGANS), len(z), *shapes[ids[0]]), dtype=bool)
        for side, rles in enumerate((true, pred)):
            for k, organ in enumerate(ORGANS):
                for i, place in enumerate(z):
                    masks[side, k, i] = _decode(rles[ids[place], organ], masks.shape[3:])
        dice += [_dice(*masks[:, k, i]) for k in range(len(ORGANS)) for i in range(len(z))]
        if z:
            by_organ += [_distance(*masks[:, k], z, len(ids)) for k in range(len(ORGANS))]
            joined.append(_distance(*masks.any(axis=1), z, len(ids), most_voxels=10))
    d, d_page = np.nanmean(dice), np.nansum(dice) / len(dice)
    variants = {
        "leaderboard": (d, np.nanmean(by_organ)),
        "page": (d_page, np.nanmean(by_organ)),
        "mle-bench": (d, np.nanmean(joined)),
    }
    return {name: (0.4 * d + 0.6 * (1 - h), d, h) for name, (d, h) in variants.items()}


def _tuples(table: pd.DataFrame, column: str):
    return table[["id", "class", column]].itertuples(index=False)


def _decode(rle: str, shape: tuple[int, int]) -> np.ndarray:
    flat = np.zeros(shape[0] * shape[1], dtype=bool)
    words = rle.split()
    for start, length in zip(words[::2], words[1::2], strict=True):
        flat[int(start) - 1 : int(start) - 1 + int(length)] = True
    return flat.reshape(shape)


def _dice(true: np.ndarray, pred: np.ndarray) -> float:
    if not true.any() and not pred.any():
        return math.nan
    return 2 * (true & pred).sum() / (true.sum() + pred.sum())


def _distance(
    true: np.ndarray, pred: np.ndarray, z: list[int], depth: int, most_voxels: float = math.inf
) -> float:
    if not true.any() and not pred.any():
        return math.nan
    if not true.any() or not pred.any() or pred.sum() > most_voxels * true.sum():
        return 1.0
    points = [np.argwhere(masks) for masks in (true, pred)]
    a, b = (np.column_stack([np.array(z)[p[:, 0]], p[:, 1:]]) / (depth, *true.shape[1:]) for p in points)
    return max(directed_hausdorff(a, b)[0], directed_hausdorff(b, a)[0]) / math.sqrt(3)


def table(volumes: dict[str, np.ndarray], column: str) -> pd.DataFrame:
    """Rows of ``(z, organ, y, x)`` volumes by scan; slice numbers start at 1."""
    rows = [
        (f"{scan}_slice_{z + 1:04d}", organ, rle_encode(mask))
        for scan, volume in volumes.items()
        for z, masks in enumerate(volume)
        for organ, mask in zip(ORGANS, masks, strict=True)
    ]
    return pd.DataFrame(rows, columns=["id", "class", column])


def some_volumes(seed: int) -> dict[str, np.ndarray]:
    """Blocks of random place and size; organs absent at both ends of a scan and from some scans altogether."""
    generator = np.random.default_rng(seed)
    volumes = {}
    for scan, depth in DEPTHS.items():
        volume = np.zeros((depth, len(ORGANS), *SHAPE), dtype=bool)
        for k in range(len(ORGANS)):
            z, y, x = (int(generator.integers(0, length - 2)) for length in (depth, *SHAPE))
            if generator.random() < 0.8:
                block = volume[z : z + 3, k, y : y + 6, x : x + 5]
                block[:] = generator.random(block.shape) < 0.8
        volumes[scan] = volume
    return volumes


TRUTH = table(some_volumes(1), "segmentation")
PREDICTION = table(some_volumes(2), "predicted")
SIZES = dict.fromkeys(TRUTH["id"], SHAPE)
INDEX = pd.DataFrame({"id": list(SIZES), "height": SHAPE[0], "width": SHAPE[1]})


def test_dice_of_known_masks():
    mask_true, mask_pred = np.zeros((2, 2, 3, 4), dtype=bool)
    mask_true[0, 0, :3] = mask_pred[0, 0, 1:] = True
    assert dice_coefficient(mask_true, mask_pred) == pytest.approx(2 * 2 / 6)
    assert dice_coefficient(mask_true[0], mask_true[0].astype(np.uint8)) == 1.0
    assert dice_coefficient(mask_true, np.zeros_like(mask_true)) == 0.0
    assert math.isnan(dice_coefficient(mask_true[1], mask_pred[1]))
    with pytest.raises(InputError, match=r"expected \(y, x\) or \(z, y, x\)"):
        dice_coefficient(mask_true.ravel(), mask_pred.ravel())


def found(score: Score) -> tuple[float, float, float]:
    return score.total, score.dice, score.hausdorff


@pytest.mark.parametrize("seed", range(4))
def test_score_agrees_with_the_slow_one(seed):
    prediction = table(some_volumes(10 + seed), "predicted")
    for variant, expected in slow_scores(TRUTH, prediction, INDEX).items():
        score = competition_score(TRUTH, prediction, SIZES, variant)
        assert found(score) == pytest.approx(expected, abs=TOLERANCE, rel=0)
        assert score.variant == variant


@pytest.mark.parametrize(("run", "ids"), [("run_a", 151), ("run_b", 144)])
def test_real_predictions_agree_with_the_slow_score(shared_data, real_labels, real_sizes, run, ids):
    prediction = pd.read_csv(shared_data / "predictions" / f"{run}.csv", keep_default_na=False)
    for variant, expected in slow_scores(real_labels, prediction, real_sizes).items():
        score = competition_score(real_labels, prediction, real_sizes, variant, only_common=True)
        assert found(score) == pytest.approx(expected, abs=TOLERANCE, rel=0)
        assert score.rows == 3 * ids
        assert score.ids_only_in_truth == real_labels["id"].nunique() - ids
        assert score.ids_only_in_prediction == prediction["id"].nunique() - ids
        assert score.ids_left_out == score.ids_only_in_truth + score.ids_only_in_prediction


def one_scan(
    *, true: dict[tuple[int, int], int], pred: dict[tuple[int, int], int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A scan of four 2 x 3 slices; each (slice, organ) has its first n pixels drawn."""
    tables = []
    for drawn, column in ((true, "segmentation"), (pred, "predicted")):
        volume = np.zeros((4, len(ORGANS), 6), dtype=bool)
        for (z, k), n in drawn.items():
            volume[z, k, :n] = True
        tables.append(table({"case1_day0": volume.reshape(4, len(ORGANS), 2, 3)}, column))
    return tables[0], tables[1]


def score_one_scan(variant: str, **drawn):
    truth, prediction = one_scan(**drawn)
    return competition_score(truth, prediction, dict.fromkeys(truth["id"], (2, 3)), variant)


def test_a_row_that_is_empty_on_both_sides_is_skipped_or_zero_by_variant():
    drawn = {"true": {(0, 0): 2}, "pred": {(0, 0): 2}}
    assert score_one_scan("leaderboard", **drawn).dice == 1.0
    assert score_one_scan("mle-bench", **drawn).dice == 1.0
    assert score_one_scan("page", **drawn).dice == pytest.approx(1 / 12)
    assert all(score_one_scan(variant, **drawn).rows_both_empty == 11 for variant in VARIANTS)


def test_a_row_that_is_empty_on_one_side_is_dice_zero_and_distance_one():
    score = score_one_scan("leaderboard", true={(0, 0): 2, (1, 1): 3}, pred={(0, 0): 2, (2, 2): 1})
    assert (score.dice, score.hausdorff) == pytest.approx((1 / 3, 2 / 3))
    assert (score.rows, score.rows_both_empty, score.rows_one_empty, score.volumes) == (12, 9, 2, 3)


def test_distance_joins_the_organs_in_mle_bench_alone():
    # organs mixed up: joined, the volumes are the same
    drawn = {"true": {(0, 0): 2, (1, 1): 3}, "pred": {(0, 1): 2, (1, 0): 3}}
    assert score_one_scan("mle-bench", **drawn).hausdorff == 0.0
    assert score_one_scan("mle-bench", **drawn).volumes == 1
    score = score_one_scan("leaderboard", **drawn)
    assert score.hausdorff > 0.1
    assert score.volumes == 2


def test_over_ten_times_the_voxels_is_distance_one_in_mle_bench_alone():
    whole = {(z, k): 6 for z in range(2) for k in range(1)}
    barely = {**dict.fromkeys([(0, 0), (1, 0)], 5)}
    assert score_one_scan("mle-bench", true={(0, 0): 1}, pred=whole).hausdorff == 1.0
    assert score_one_scan("mle-bench", true={(0, 0): 1}, pred=barely).hausdorff < 1.0
    assert score_one_scan("leaderboard", true={(0, 0): 1}, pred=whole).hausdorff < 1.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_drawn_anywhere_scores_nan_and_says_why_in_the_counts(variant):
    score = score_one_scan(variant, true={}, pred={})
    assert math.isnan(score.total)
    assert math.isnan(score.hausdorff)
    assert score.dice == 0.0 if variant == "page" else math.isnan(score.dice)
    assert score.volumes == 0
    assert score.rows == score.rows_both_empty == 12


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_truth_itself_is_perfect_but_on_the_page(variant):
    score = competition_score(TRUTH, TRUTH.rename(columns={"segmentation": "predicted"}), SIZES, variant)
    assert score.hausdorff == 0.0
    assert score.dice == (pytest.approx(1 - score.rows_both_empty / score.rows) if variant == "page" else 1.0)


def test_parts_add_up_to_the_whole():
    score = competition_score(TRUTH, PREDICTION, SIZES)
    parts = score.parts
    assert list(parts["scan"].unique()) == list(DEPTHS)
    assert len(parts) == len(DEPTHS) * len(ORGANS)
    assert score.dice == pytest.approx(parts["dice_sum"].sum() / parts["dice_rows"].sum())
    for grouped, names in ((score.by_organ, ORGANS), (score.by_scan, DEPTHS)):
        assert list(grouped.index) == list(names)
        for count in ("rows", "rows_both_empty", "rows_one_empty"):
            assert grouped[count].sum() == getattr(score, count)
            assert grouped[count].dtype == np.int64
    assert score.by_scan.loc["case7_day12", "rows"] == 9 * len(ORGANS)


def test_parts_by_organ_and_scan_are_the_score_of_that_organ_and_scan_alone():
    score = competition_score(TRUTH, PREDICTION, SIZES)
    organ, scan = "small_bowel", "case7_day12"
    alone = [rows[rows["class"] == organ] for rows in (TRUTH, PREDICTION)]
    expected = competition_score(*alone, SIZES, organs=(organ,))
    assert score.by_organ.loc[organ, "total"] == pytest.approx(expected.total)
    alone = [rows[rows["id"].str.startswith(scan)] for rows in (TRUTH, PREDICTION)]
    expected = competition_score(*alone, SIZES)
    assert score.by_scan.loc[scan, ["total", "dice", "hausdorff"]].tolist() == pytest.approx(
        [expected.total, expected.dice, expected.hausdorff]
    )


def test_other_organs_than_the_layouts():
    names = dict(zip(ORGANS, ("left_lung", "right_lung", "heart"), strict=True))
    truth, prediction = (rows.replace({"class": names}) for rows in (TRUTH, PREDICTION))
    score = competition_score(truth, prediction, SIZES, organs=tuple(names.values()))
    assert score.total == competition_score(TRUTH, PREDICTION, SIZES).total
    assert list(score.by_organ.index) == list(names.values())


def test_order_of_rows_names_of_columns_and_form_of_sizes_do_not_matter():
    expected = competition_score(TRUTH, PREDICTION, SIZES).total
    shuffled = PREDICTION.sample(frac=1, random_state=3)
    unnamed = TRUTH.rename(columns={"segmentation": "predicted"}).replace({"predicted": {"": np.nan}})
    assert competition_score(TRUTH, shuffled, INDEX).total == expected
    assert (
        competition_score(unnamed, PREDICTION.assign(note="further columns are read over"), SIZES).total
        == expected
    )
    assert competition_score(TRUTH, PREDICTION, SIZES, workers=1).total == expected


def test_slices_are_stacked_by_number_not_as_text():
    volumes = {"case1_day0": some_volumes(5)["case7_day12"]}
    truth, prediction = (
        table(volumes, "segmentation"),
        table({"case1_day0": volumes["case1_day0"][::-1]}, "predicted"),
    )
    renumbered = [
        rows.assign(id=rows["id"].str.replace(r"0*(\d+)$", lambda m: str(int(m[1]) + 4), regex=True))
        for rows in (truth, prediction)
    ]
    assert sorted(renumbered[0]["id"].unique())[0].endswith("_10")
    expected = competition_score(truth, prediction, dict.fromkeys(truth["id"], SHAPE))
    score = competition_score(*renumbered, dict.fromkeys(renumbered[0]["id"], SHAPE))
    assert (score.total, score.hausdorff) == (expected.total, expected.hausdorff)


def test_depth_is_that_of_the_truths_rows_where_ids_are_left_out():
    truth, prediction = one_scan(true={(1, 0): 1}, pred={(2, 0): 1})
    sizes = dict.fromkeys(truth["id"], (2, 3))
    middle = prediction["id"].str.contains("_000[23]")
    score = competition_score(truth, prediction[middle], sizes, only_common=True)
    assert score.hausdorff == pytest.approx(1 / 4 / math.sqrt(3))
    assert (score.rows, score.ids_only_in_truth, score.ids_only_in_prediction) == (6, 2, 0)


def test_an_unknown_variant_is_a_settings_error():
    with pytest.raises(
        SettingsError, match=re.escape("'private', expected one of leaderboard, page, mle-bench")
    ):
        competition_score(TRUTH, PREDICTION, SIZES, "private")


def test_the_docstring_has_every_variant_in_its_table():
    import gitract_kit.competition.metric as module

    assert all(re.search(rf"^{variant} ", module.__doc__, re.MULTILINE) for variant in VARIANTS)


def test_scans_side_by_side_are_the_same_to_the_last_bit():
    scores = {
        competition_score(TRUTH, PREDICTION, SIZES, workers=n).total
        for n in (1, 2, (os.cpu_count() or 1) + 3)
    }
    assert len(scores) == 1
