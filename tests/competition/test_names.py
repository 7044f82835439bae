from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitract_kit.competition.names import ScanName, SliceFile, SliceName, natural_key, parse_case
from gitract_kit.errors import DatasetError

NUMBERS = st.integers(0, 999_999_999)
SLICES = st.integers(0, 9999)
PIXELS = st.integers(1, 99_999)
SPACINGS = st.integers(1, 99_999).map(lambda hundredths: hundredths / 100)
PARSERS = [parse_case, ScanName.parse, SliceName.parse, SliceFile.parse]


def test_names_are_sorted_by_the_numbers_in_them():
    names = ["case2_day10", "case10_day1", "2", "a 7", "10", "a 07", "case2_day9", "b", ""]
    wanted = ["", "2", "10", "a 07", "a 7", "b", "case2_day9", "case2_day10", "case10_day1"]
    assert sorted(names, key=natural_key) == wanted


def test_an_id_is_read():
    assert SliceName.parse("case123_day20_slice_0065") == SliceName(case=123, day=20, slice=65)
    assert SliceName.parse("case123_day20_slice_0065").scan == ScanName(case=123, day=20)


def test_a_file_name_holds_the_width_before_the_height():
    file = SliceFile.parse("slice_0065_360_310_1.50_1.63.png")
    assert file == SliceFile(slice=65, width=360, height=310, spacing_x_mm=1.5, spacing_y_mm=1.63)


@given(NUMBERS, NUMBERS, SLICES)
def test_ids_and_scans_round_trip(case, day, number):
    name = SliceName(case, day, number)
    assert SliceName.parse(str(name)) == name
    assert ScanName.parse(str(name.scan)) == name.scan
    assert parse_case(f"case{case}") == case


@given(SLICES, PIXELS, PIXELS, SPACINGS, SPACINGS)
def test_file_names_round_trip(number, width, height, spacing_x_mm, spacing_y_mm):
    file = SliceFile(number, width, height, spacing_x_mm, spacing_y_mm)
    assert SliceFile.parse(str(file)) == file


def test_names_sort_as_numbers():
    names = ["case10_day2_slice_0001", "case9_day10_slice_0001", "case9_day9_slice_0002"]
    assert [str(name) for name in sorted(map(SliceName.parse, names))] == names[::-1]


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_case, "case"),
        (parse_case, "case07"),
        (parse_case, "Case7"),
        (parse_case, "case7 "),
        (parse_case, "case7\n"),
        (parse_case, "case\u0667"),
        (parse_case, "case" + "9" * 5000),
        (ScanName.parse, "case7_day"),
        (ScanName.parse, "case7_day01"),
        (ScanName.parse, "case7_day-1"),
        (SliceName.parse, "case7_day0_slice_65"),
        (SliceName.parse, "case7_day0_slice_00065"),
        (SliceName.parse, "../case7_day0_slice_0065"),
        (SliceFile.parse, "slice_0065_266_266.png"),
        (SliceFile.parse, "slice_0065_0_266_1.50_1.50.png"),
        (SliceFile.parse, "slice_0065_266_266_0.00_1.50.png"),
        (SliceFile.parse, "slice_0065_266_266_1.5_1.5.png"),
        (SliceFile.parse, "slice_0065_266_266_1.50_1.50.PNG"),
        (SliceFile.parse, "slice_0065_266_266_1.50_1.50.png.tmp"),
    ],
)
def test_another_form_is_refused(parse, text):
    with pytest.raises(DatasetError, match="is not a"):
        parse(text)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text(alphabet="casedylice_0123456789.pn/\n", max_size=40))
def test_what_is_read_prints_back_as_it_was(parse, text):
    try:
        name = parse(text)
    except DatasetError:
        return
    assert (f"case{name}" if parse is parse_case else str(name)) == text
