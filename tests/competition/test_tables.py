from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gitract_kit.competition.layout import ORGANS, Layout
from gitract_kit.competition.tables import read_labels
from gitract_kit.errors import DatasetError

FIRST, SECOND = "case9_day2_slice_0001", "case10_day0_slice_0144"
ROWS = [
    f"{FIRST},large_bowel,1 3 9 2",
    f"{FIRST},small_bowel,",
    f"{FIRST},stomach,5 1",
    f"{SECOND},large_bowel,",
    f"{SECOND},small_bowel,7 7",
    f"{SECOND},stomach,",
]
WIDE = {
    "id": [FIRST, SECOND],
    "large_bowel": ["1 3 9 2", ""],
    "small_bowel": ["", "7 7"],
    "stomach": ["5 1", ""],
}


@pytest.fixture
def write(tmp_path):
    def write(rows, header="id,class,segmentation", encoding="utf-8", end="\n"):
        path = tmp_path / "train.csv"
        path.write_bytes(end.join([header, *rows, ""]).encode(encoding))
        return path

    return write


def test_labels_are_one_row_an_id_in_the_order_of_the_file(write):
    labels = read_labels(write(ROWS))
    assert list(labels.columns) == ["id", *ORGANS]
    assert labels.to_dict("list") == WIDE


def test_an_empty_mask_is_an_empty_string_and_every_cell_is_text(write):
    labels = read_labels(write(ROWS))
    assert all(type(cell) is str for cell in labels.to_numpy(dtype=object).ravel())


def test_a_bom_and_windows_line_ends_are_read_over(write):
    assert read_labels(write(ROWS, encoding="utf-8-sig", end="\r\n")).to_dict("list") == WIDE


def test_other_column_orders_and_further_columns_are_read_over(write):
    rows = [",".join([*row.split(",")[::-1], "Public"]) for row in ROWS]
    assert read_labels(write(rows, "segmentation,class,id,Usage")).to_dict("list") == WIDE


def test_rows_may_come_in_any_order(write):
    labels = read_labels(write([ROWS[3], *ROWS[:3], *ROWS[:3:-1]])).set_index("id")
    pd.testing.assert_frame_equal(labels.loc[[FIRST, SECOND]], pd.DataFrame(WIDE).set_index("id"))


def test_the_organs_are_those_of_the_layout(write):
    layout = Layout("one", organs=("liver",), competition_slug="liver")
    labels = read_labels(write([f"{FIRST},liver,1 3"]), layout)
    assert labels.to_dict("list") == {"id": [FIRST], "liver": ["1 3"]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, f"{FIRST},colon,"], r"1 row with a class.*large_bowel, small_bowel, stomach.*row 7 .*colon"),
        (
            [*ROWS, ROWS[1], ROWS[2]],
            rf"2 rows with the id and class of a row above.*the first is row 7 \({FIRST}, small_bowel\)",
        ),
        (ROWS[1:], f"rows missing: 1; the first is large_bowel of {FIRST}"),
        ([*ROWS, "../../etc/passwd,stomach,"], r"'\.\./\.\./etc/passwd' is not a slice's id"),
        ([*ROWS, f"{FIRST},stomach,1 1,7"], "not a CSV text.*line 8"),
        ([*ROWS, '"'], "not a CSV text"),
        ([*ROWS, f"{FIRST}"], "class that is not one of"),
    ],
)
def test_a_faulty_row_is_named(write, rows, message):
    with pytest.raises(DatasetError, match=message) as caught:
        read_labels(write(rows))
    assert str(write(rows)) in str(caught.value)


@pytest.mark.parametrize("header", ["id,class,predicted", "id,class,class", "segmentation,class", "a,b,c"])
def test_other_columns_are_refused(write, header):
    with pytest.raises(
        DatasetError, match=f"found the columns {header.replace(',', ', ')}, expected id, class"
    ):
        read_labels(write([], header))


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_an_empty_file_is_named(tmp_path, content):
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    with pytest.raises(
        DatasetError, match=r"train\.csv is empty: expected a first line id,class,segmentation"
    ):
        read_labels(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "train.csv"
    path.write_bytes(b"id,class,segmentation\n\xff\xfe,stomach,\n")
    with pytest.raises(DatasetError, match="not a CSV text in UTF-8"):
        read_labels(path)


@pytest.mark.parametrize("name", ["missing.csv", ".", "http://example.org/train.csv", "a\0b"])
def test_what_is_not_a_file_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_labels(name)


def test_real_labels_are_read_as_pandas_reads_them(shared_data):
    path = shared_data / "labels" / "train.csv"
    labels = read_labels(path)
    expected = pd.read_csv(path).pivot(index="id", columns="class", values="segmentation").fillna("")
    assert len(labels) == 4752 // 3
    np.testing.assert_array_equal(
        labels.set_index("id").loc[expected.index, list(ORGANS)].to_numpy(), expected[list(ORGANS)].to_numpy()
    )
