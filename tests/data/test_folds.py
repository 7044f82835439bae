from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import ORGANS, Layout
from gitract_kit.data.folds import assign_folds, load_folds, load_or_assign_folds, save_folds
from gitract_kit.errors import DatasetError, SettingsError


def make_index(*cases):
    """A case is a list of slices, a slice the organs that it holds."""
    rows = [
        (f"case{number}", *("1 1" if organ in slice_ else "" for organ in ORGANS))
        for number, slices in enumerate(cases, start=1)
        for slice_ in slices
    ]
    return pd.DataFrame(rows, columns=["case", *ORGANS])


@pytest.fixture
def index():
    # 20 cases of 8 to 11 slices: four with a stomach, the others with bowel
    labelled = {
        number: ("stomach",) if number % 5 == 0 else ("large_bowel", "small_bowel") for number in range(20)
    }
    return make_index(*([[(), (), *[labelled[number]] * (6 + number % 4)] for number in range(20)]))


def test_every_case_is_in_exactly_one_fold(index):
    folds = assign_folds(index, n_folds=4)
    assert list(folds.columns) == ["case", "fold"]
    assert folds["case"].tolist() == index["case"].unique().tolist()
    assert set(folds["fold"]) == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_organ_is_spread_over_the_folds(index, seed):
    rows = index.merge(assign_folds(index, n_folds=4, seed=seed), on="case")
    with_stomach = rows[rows["stomach"] != ""].drop_duplicates("case")
    assert sorted(with_stomach["fold"]) == [0, 1, 2, 3]


def test_the_seed_decides(index):
    pd.testing.assert_frame_equal(assign_folds(index, seed=1), assign_folds(index, seed=1))
    assert assign_folds(index, seed=1)["fold"].tolist() != assign_folds(index, seed=2)["fold"].tolist()


slices = st.lists(st.sets(st.sampled_from(ORGANS)), min_size=1, max_size=6)


@given(st.lists(slices, min_size=2, max_size=9), st.data())
def test_no_fold_is_empty_however_rare_an_organ_is(cases, data):
    n_folds = data.draw(st.integers(2, len(cases)))
    folds = assign_folds(make_index(*cases), n_folds)
    assert set(folds["fold"]) == set(range(n_folds))


def test_as_many_folds_as_cases_leave_none_empty():
    # where the splitter alone leaves fold 2 without a case
    held = [{"large_bowel"}, {"large_bowel", "small_bowel"}, set(), set(), {"small_bowel"}]
    for seed in range(20):
        folds = assign_folds(make_index(*([slice_] for slice_ in held)), 5, seed=seed)
        assert sorted(folds["fold"]) == [0, 1, 2, 3, 4]


def test_organs_are_those_of_the_layout():
    index = pd.DataFrame({"case": ["case1", "case1", "case2", "case3"], "liver": ["1 1", "", "", ""]})
    folds = assign_folds(index, 3, layout=Layout("one", organs=("liver",), competition_slug="liver"))
    assert sorted(folds["fold"]) == [0, 1, 2]


@pytest.mark.parametrize("n_folds", [21, 1, 0])
def test_an_impossible_number_of_folds_is_refused(index, n_folds):
    with pytest.raises(SettingsError, match=f"{n_folds} folds of 20 cases: expected 2 to 20 folds"):
        assign_folds(index, n_folds)


def test_folds_round_trip(index, tmp_path):
    folds = assign_folds(index)
    save_folds(folds, tmp_path / "folds.csv")
    pd.testing.assert_frame_equal(load_folds(tmp_path / "folds.csv"), folds, check_dtype=False)
    assert load_folds(tmp_path / "folds.csv")["fold"].dtype.kind == "i"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("case,split\n", "found the columns case, split, expected case, fold"),
        ("fold,case\n0,case1\n", "has the columns fold, case, expected case, fold"),
        ("case,fold\n", "fold 0 holds no case"),
        ("case,fold\ncase1,0\ncase2,2\n", "fold 1 holds no case"),
        ("case,fold\ncase1,0\ncase1,1\n", "case1 stands in it twice"),
        ("case,fold\ncase1,0\n,1\n", "row 2: holds no case"),
        ("case,fold\ncase1,-1\n", "row 1: the fold of case1 is '-1', expected a whole number"),
        ("case,fold\ncase1,0.0\n", "the fold of case1 is '0.0'"),
        ("case,fold\ncase1\n", "the fold of case1 is ''"),
    ],
)
def test_a_file_that_holds_no_folds_is_refused(tmp_path, text, message):
    path = tmp_path / "folds.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        load_folds(path)
    assert str(path) in str(caught.value)


def test_folds_are_made_once_and_then_reused(index, tmp_path):
    path = tmp_path / "work" / "folds.csv"
    made = load_or_assign_folds(index, path, n_folds=4, seed=1)
    written = path.read_bytes()
    again = load_or_assign_folds(index.sample(frac=1, random_state=0), path, n_folds=7, seed=2)
    pd.testing.assert_frame_equal(again, made, check_dtype=False)
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda index: index[index["case"] != "case7"],
            "1 cases differ, the first is case7, in the folds alone",
        ),
        (
            lambda index: pd.concat([index, index.tail(2).assign(case=["case99", "case100"])]),
            "2 cases differ, the first is case99, in the data alone",
        ),
    ],
)
def test_folds_of_other_cases_are_refused(index, tmp_path, change, message):
    load_or_assign_folds(index, tmp_path / "folds.csv")
    with pytest.raises(DatasetError, match=message):
        load_or_assign_folds(change(index), tmp_path / "folds.csv")


def test_real_cases_are_folded(shared_data):
    index = build_index(shared_data / "sample")
    folds = assign_folds(index, n_folds=3)
    held = index.merge(folds, on="case").groupby("fold")["case"].agg(set)
    assert set.union(*held) == set(index["case"])
    assert np.sum([len(cases) for cases in held]) == index["case"].nunique()
