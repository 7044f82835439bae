"""Truth and prediction side by side: a sentence that names the row for every fault of the tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.metric import VARIANTS, competition_score
from gitract_kit.competition.paired_scans import pair_scans
from gitract_kit.errors import DatasetError, SubmissionError

SHAPE = (14, 17)
IDS = [
    f"{scan}_slice_{z:04d}"
    for scan, depth in (("case7_day0", 6), ("case7_day12", 9), ("case101_day3", 4))
    for z in range(1, depth + 1)
]
ROWS = pd.DataFrame([(slice_id, organ) for slice_id in IDS for organ in ORGANS], columns=["id", "class"])
TRUTH, PREDICTION = ROWS.assign(segmentation="1 2 40 5"), ROWS.assign(predicted="3 4")
SIZES = dict.fromkeys(IDS, SHAPE)
INDEX = pd.DataFrame({"id": IDS, "height": SHAPE[0], "width": SHAPE[1]})


def test_scans_hold_their_slices_by_number_and_their_own_rows():
    numbered = {slice_id: f"{i + 1} 1" for i, slice_id in enumerate(IDS)}
    truth = TRUTH.assign(segmentation=TRUTH["id"].map(numbered)).sample(frac=1, random_state=1)
    paired = pair_scans(truth, PREDICTION[PREDICTION["id"] != IDS[1]], INDEX, ORGANS, only_common=True)
    scan = next(scan for scan in paired.scans if scan.name == "case7_day0")
    assert scan.extent == (6, *SHAPE)
    assert scan.ids == [IDS[0], *IDS[2:6]]
    assert scan.z.tolist() == [0, 2, 3, 4, 5]
    assert scan.rles_true[:, 2].tolist() == ["1 1", "3 1", "4 1", "5 1", "6 1"]
    assert scan.rles_pred.shape == (5, len(ORGANS))
    assert {scan.name for scan in paired.scans} == {"case7_day0", "case7_day12", "case101_day3"}
    assert (paired.ids_only_in_truth, paired.ids_only_in_prediction) == (1, 0)


def without(rows: pd.DataFrame, *positions: int) -> pd.DataFrame:
    return rows.drop(index=list(positions))


def changed(rows: pd.DataFrame, position: int, column: str, value: object) -> pd.DataFrame:
    rows = rows.astype(object)
    rows.loc[position, column] = value
    return rows


FIRST_ID = "case7_day0_slice_0001"
BAD_PREDICTIONS = {
    "no column": (
        PREDICTION[["id", "predicted"]],
        "the prediction has the columns id, predicted, expected id, class",
    ),
    "no table": ("submission.csv", "the prediction is a str, expected a table"),
    "a column twice": (
        pd.concat([PREDICTION, PREDICTION["predicted"]], axis=1),
        "columns id, class, predicted, predicted",
    ),
    "a duplicate row": (
        pd.concat([PREDICTION, PREDICTION.iloc[[0, 4]]]),
        rf"has 2 rows with the id and class of a row above; the first is row 58 \({FIRST_ID}, large_bowel\)",
    ),
    "another class": (
        changed(PREDICTION, 3, "class", "colon"),
        r"has 1 row with a class that is not one of .*; the first is row 4 \(case7_day0_slice_0002, colon\)",
    ),
    "no class": (
        changed(PREDICTION, 3, "class", np.nan),
        "has 1 row whose class is not text; the first is row 4",
    ),
    "no id": (changed(PREDICTION, 3, "id", None), "has 1 row whose id is not text; the first is row 4"),
    "an organ's row missing": (
        without(PREDICTION, 1),
        f"lacks 1 rows of ids .* the first is small_bowel of {FIRST_ID}",
    ),
    "an id missing": (
        without(PREDICTION, 0, 1, 2),
        f"lacks 1 of the truth's 19 ids; the first is {FIRST_ID}",
    ),
    "an id too many": (
        pd.concat([PREDICTION, PREDICTION.iloc[:3].assign(id="case9_day9_slice_0001")]),
        "has 1 ids that the truth lacks; the first is case9_day9_slice_0001",
    ),
    "a run past the end": (
        changed(PREDICTION, 4, "predicted", "238 2"),
        r"mask of small_bowel in case7_day0_slice_0002: pair 1 \('238 2'\) ends at pixel 239, but the mask has 238",
    ),
    "a number for a mask": (
        changed(PREDICTION, 4, "predicted", 3.5),
        "has 1 row whose predicted is not text; the first is row 5",
    ),
    "a list for a mask": (
        PREDICTION.assign(predicted=[np.arange(2)] * len(PREDICTION)),
        "has 57 rows whose predicted",
    ),
    "a word for a mask": (changed(PREDICTION, 4, "predicted", "none"), "case7_day0_slice_0002: .* 'none'"),
    "no rows": (PREDICTION.iloc[:0], "lacks 19 of the truth's 19 ids"),
}


@pytest.mark.parametrize("name", BAD_PREDICTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bad_prediction_is_a_submission_error_that_names_the_row(name, variant):
    prediction, message = BAD_PREDICTIONS[name]
    with pytest.raises(SubmissionError, match=message):
        competition_score(TRUTH, prediction, SIZES, variant)


BAD_TRUTHS = {
    "a run past the end": (
        changed(TRUTH, 4, "segmentation", "300 1"),
        "truth's mask of small_bowel in case7_day0_slice_0002",
    ),
    "an id of another form": (
        changed(TRUTH, slice(0, 2), "id", "case7"),
        "the id 'case7', expected one such as",
    ),
    "no column": (
        TRUTH[["id", "class"]],
        "the truth has the columns id, class, expected id, class, segmentation",
    ),
    "no rows": (TRUTH.iloc[:0], "the truth has no rows"),
}


@pytest.mark.parametrize("name", BAD_TRUTHS)
def test_a_bad_truth_is_a_dataset_error(name):
    truth, message = BAD_TRUTHS[name]
    with pytest.raises(DatasetError, match=message):
        competition_score(truth, PREDICTION, SIZES, only_common=True)


def test_nothing_in_common_is_an_error():
    prediction = PREDICTION.assign(id=PREDICTION["id"].str.replace("case", "case9"))
    with pytest.raises(SubmissionError, match="no id of the prediction's 19 is among the truth's 19"):
        competition_score(TRUTH, prediction, SIZES, only_common=True)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, f"the sizes lack 6 slices of case7_day0; the first is {FIRST_ID}"),
        (
            {**SIZES, FIRST_ID: (17, 14)},
            r"sizes of case7_day0's slices are \(17, 14\), \(14, 17\), expected one",
        ),
        (dict.fromkeys(SIZES, (0, 4)), r"slices are \(0, 4\), expected one \(height, width\)"),
        (dict.fromkeys(SIZES, (14, 17, 1)), r"slices are \(14, 17, 1\), expected one"),
        (dict.fromkeys(SIZES, 266), r"slices are 266, expected one \(height, width\)"),
        (INDEX[["id", "height"]], "the sizes have the columns id, height, expected id, height, width"),
    ],
)
def test_sizes_that_do_not_fit_are_a_dataset_error(sizes, message):
    with pytest.raises(DatasetError, match=message):
        competition_score(TRUTH, PREDICTION, sizes)
