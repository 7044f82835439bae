from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gitract_kit.competition.layout import ORGANS, Layout
from gitract_kit.competition.submission import (
    check_submission,
    read_submission,
    write_fallback,
    write_submission,
)
from gitract_kit.errors import DatasetError, SettingsError, SubmissionError

HEADER = "id,class,predicted"
IDS = ["case9_day2_slice_0002", "case10_day0_slice_0001", "case9_day2_slice_0001"]  # not in natural order
SIZES = {IDS[0]: (4, 6), IDS[1]: (5, 5), IDS[2]: (4, 6)}
PREDICTIONS = {IDS[0]: ("1 3 9 2", "", "24 1"), IDS[1]: ("", "", ""), IDS[2]: ("", "7 7", "")}
ROWS = [
    f"{slice_id},{organ},{rle}"
    for slice_id in IDS
    for organ, rle in zip(ORGANS, PREDICTIONS[slice_id], strict=True)
]


def text(rows, header=HEADER, end="\n"):
    return end.join([header, *rows, ""])


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample_submission.csv"
    path.write_text(text(row.rsplit(",", 1)[0] + "," for row in ROWS))
    return path


@pytest.fixture
def submit(tmp_path):
    def submit(rows=ROWS, header=HEADER, end="\n", start=b""):
        path = tmp_path / "submission.csv"
        path.write_bytes(start + text(rows, header, end).encode())
        return path

    return submit


def frame(rows=ROWS):
    return pd.DataFrame([row.split(",") for row in rows], columns=HEADER.split(","))


def changed(position, *, slice_id=None, organ=None, rle=None):
    """ROWS with one row changed; ``position`` counts from 1, as messages do."""
    cells = [
        new or old for new, old in zip((slice_id, organ, rle), ROWS[position - 1].split(","), strict=True)
    ]
    return [*ROWS[: position - 1], ",".join(cells), *ROWS[position:]]


# reading


def test_a_submission_is_read_as_text_in_its_own_order(submit):
    pd.testing.assert_frame_equal(read_submission(submit()), frame(), check_dtype=False)


@pytest.mark.parametrize("form", [{"end": "\r\n"}, {"start": b"\xef\xbb\xbf"}])
def test_reading_is_indifferent_to_line_ends_and_a_bom(submit, form):
    pd.testing.assert_frame_equal(read_submission(submit(**form)), frame(), check_dtype=False)


def test_reading_puts_columns_in_order(submit):
    rows = [",".join(np.roll(row.split(","), 1)) for row in ROWS]
    read = read_submission(submit(rows, "predicted,id,class"))
    pd.testing.assert_frame_equal(read, frame(), check_dtype=False)


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (
            ROWS,
            "id,class,segmentation",
            "found the columns id, class, segmentation, expected id, class, predicted",
        ),
        (ROWS, "id,class,predicted,score", "has the columns id, class, predicted, score, expected"),
        (
            changed(4, organ="liver"),
            HEADER,
            rf"1 row with an unknown class; the first is row 4 \({IDS[1]}, liver\)",
        ),
        (
            [*ROWS, ROWS[1]],
            HEADER,
            rf"1 row with the id and class of a row above; the first is row 10 \({IDS[0]}",
        ),
    ],
)
def test_reading_refuses_what_is_no_submission(submit, rows, header, message):
    with pytest.raises(SubmissionError, match=message):
        read_submission(submit(rows, header))


# checking


def test_a_sound_submission_is_reported(submit, sample):
    report = check_submission(submit(), sample, SIZES)
    assert (report.rows, report.slices, report.masks, report.sized_rows) == (9, 3, 3, 9)


def test_a_report_reads_as_a_sentence(sample):
    assert str(check_submission(frame(), sample, SIZES)) == (
        "9 rows of 3 slices, 3 with a mask; all held against the slice's size"
    )
    assert str(check_submission(frame(), sample)).endswith("; 0 held against the slice's size")


def test_a_submission_may_be_all_empty_and_the_sample_itself(sample):
    assert check_submission(sample, sample).masks == 0


def test_tables_are_checked_as_files_are(submit, sample):
    assert check_submission(frame(), sample) == check_submission(submit(), pd.read_csv(sample))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"start": b"\xef\xbb\xbf"}, "1 byte-order mark, .* line 1: save the file as UTF-8 without a BOM"),
        ({"end": "\r\n"}, "10 line ends of Windows; the first is in line 1"),
    ],
)
def test_a_form_that_reading_forgives_is_refused(submit, sample, form, message):
    with pytest.raises(SubmissionError, match=message) as caught:
        check_submission(submit(**form), sample)
    assert "\n" not in str(caught.value), "one fault is one sentence"


def test_columns_in_another_order_are_refused(submit, sample):
    rows = [",".join(row.split(",")[::-1]) for row in ROWS]
    with pytest.raises(
        SubmissionError, match="2 columns out of order: line 1 is predicted,class,id, expected id,cl"
    ):
        check_submission(submit(rows, "predicted,class,id"), sample)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:-2], rf"2 rows missing; the first is row 8 \({IDS[2]}, small_bowel\) of the sample"),
        (
            [*ROWS, "case1_day1_slice_0001,stomach,"],
            r"1 row that the sample does not have; the first is row 10 \(case1",
        ),
        (
            [*ROWS, ROWS[3], ROWS[4]],
            rf"2 rows with the id and class of a row above; the first is row 10 \({IDS[1]}",
        ),
        (
            changed(2, organ="Small_Bowel"),
            r"1 row with an unknown class; the first is row 2 .*expected large_bowel",
        ),
        (
            [ROWS[0], ROWS[2], ROWS[1], *ROWS[3:]],
            r"2 rows not in the sample's order; the first is row 2 .*stomach",
        ),
        (changed(1, rle="1 3 9"), r"1 row with an unreadable mask; the first is row 1 .*: .*no length"),
        (changed(3, rle="24 2"), r"the first is row 3 .*ends at pixel 25, but the mask has 24"),
        (
            changed(5, rle="nan"),
            r"the first is row 5 .*: its text is 'nan', and an empty mask is an empty cell",
        ),
        (changed(5, rle="1 1.0"), r"the first is row 5 .*'1.0', expected a whole number"),
    ],
)
def test_a_faulty_row_is_counted_and_named(submit, sample, rows, message):
    with pytest.raises(SubmissionError, match=message) as caught:
        check_submission(submit(rows), sample, SIZES)
    assert str(caught.value).startswith(str(submit(rows)))


def test_every_fault_has_its_sentence(submit, sample):
    rows = [*changed(1, rle="0 1")[:-1], "case1_day1_slice_0001,stomach,"]
    with pytest.raises(SubmissionError) as caught:
        check_submission(submit(rows, end="\r\n"), sample, SIZES)
    for sentence in (
        "10 line ends",
        "1 row that the sample does not",
        "1 row missing",
        "1 row with an unreadable",
    ):
        assert sentence in str(caught.value)


@pytest.mark.parametrize("cell", [None, np.nan, 5, "\ud800"])
@pytest.mark.parametrize("column", ["id", "class", "predicted"])
def test_a_cell_that_is_not_text_is_refused(sample, column, cell):
    rows = frame().astype(object)
    rows.loc[[3, 5], column] = cell
    with pytest.raises(SubmissionError, match=rf"2 rows whose {column} is not text .*the first is row 4 "):
        check_submission(rows, sample)


def test_sizes_come_from_an_index_too(sample):
    index = pd.DataFrame({"id": IDS, "height": [4, 5, 4], "width": [6, 5, 6]})
    assert check_submission(frame(), sample, index).sized_rows == 9
    with pytest.raises(SubmissionError, match="ends at pixel 25"):
        check_submission(frame(changed(3, rle="24 2")), sample, index)


def test_without_a_size_the_grammar_alone_is_checked(sample):
    assert check_submission(frame(changed(3, rle="24 2000")), sample, {IDS[1]: (5, 5)}).sized_rows == 3
    with pytest.raises(SubmissionError, match="overlaps"):
        check_submission(frame(changed(3, rle="24 2000 25 3")), sample)


@pytest.mark.parametrize("rows", [[*ROWS, ROWS[0]], changed(1, organ="liver")])
def test_faults_of_the_sample_are_the_samples(sample, rows):
    sample.write_text(text(rows))
    with pytest.raises(DatasetError, match=r"sample_submission\.csv: 1 row with"):
        check_submission(frame(), sample)


def test_the_public_sample_has_no_rows_and_says_so(sample, submit):
    sample.write_text(HEADER + "\n")
    assert check_submission(submit([]), sample).rows == 0
    with pytest.raises(SubmissionError, match="9 rows that the sample does not have; the first is row 1"):
        check_submission(submit(), sample)


# writing


def test_written_rows_are_the_samples_in_its_order(sample, tmp_path):
    path = tmp_path / "out" / "submission.csv"
    write_submission(dict(reversed(PREDICTIONS.items())), sample, path)
    assert path.read_bytes() == text(ROWS).encode()
    assert check_submission(path, sample, SIZES).masks == 3


def test_a_table_and_a_mapping_give_the_same_bytes(sample, tmp_path):
    write_submission(PREDICTIONS, sample, tmp_path / "mapping.csv")
    write_submission(frame(ROWS[::-1]), pd.read_csv(sample), tmp_path / "table.csv")
    assert (tmp_path / "mapping.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()


def test_a_sample_may_hold_a_part_of_the_organs_in_another_order(sample, tmp_path):
    sample.write_text(text([f"{IDS[0]},stomach,", f"{IDS[0]},large_bowel,"]))
    rows = frame([f"{IDS[0]},large_bowel,1 3", f"{IDS[0]},stomach,"])
    write_submission(rows, sample, tmp_path / "submission.csv")
    assert (tmp_path / "submission.csv").read_text() == text(
        [f"{IDS[0]},stomach,", f"{IDS[0]},large_bowel,1 3"]
    )


def test_organs_are_those_of_the_layout(tmp_path):
    layout = Layout("one", organs=("liver",), competition_slug="liver")
    sample = frame([f"{IDS[0]},liver,"])
    write_submission({IDS[0]: ["1 3"]}, sample, tmp_path / "submission.csv", layout=layout)
    assert (tmp_path / "submission.csv").read_text() == text([f"{IDS[0]},liver,1 3"])


def test_a_sample_without_rows_gives_the_header(sample, tmp_path):
    sample.write_text(HEADER + "\n")
    write_submission({}, sample, tmp_path / "submission.csv")
    assert (tmp_path / "submission.csv").read_text() == HEADER + "\n"


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (
            {IDS[1]: ("", "", "")},
            rf"6 rows missing; the first is row 1 \({IDS[0]}, large_bowel\) of the sample",
        ),
        (
            PREDICTIONS | {"case1_day1_slice_0001": ("",) * 3},
            r"3 rows that the sample does not have.*\(case1_day1",
        ),
        (
            PREDICTIONS | {IDS[1]: ("", "")},
            rf"of {IDS[1]} are \('', ''\), expected a sequence of 3 .*stomach",
        ),
        (PREDICTIONS | {IDS[1]: None}, f"the predictions of {IDS[1]} are None, expected a sequence of 3"),
        (PREDICTIONS | {IDS[1]: "1 3"}, "expected a sequence of 3 run-length strings"),
        (PREDICTIONS | {IDS[1]: (None, "", "")}, "1 row whose predicted is not text"),
        (
            PREDICTIONS | {IDS[1]: ("", "3 1 1 1", "")},
            rf"1 row with an unreadable mask.*\({IDS[1]}, small_bowel\)",
        ),
        (PREDICTIONS | {IDS[1]: ("", "25 2", "")}, "ends at pixel 26, but the mask has 25"),
        (frame([*ROWS, ROWS[0]]), "1 row with the id and class of a row above; the first is row 10"),
        (frame(changed(1, organ="liver")), "1 row with an unknown class; the first is row 1"),
    ],
)
def test_predictions_that_would_be_refused_are_not_written(sample, tmp_path, predictions, message):
    path = tmp_path / "submission.csv"
    write_fallback(sample, path)
    before = path.read_bytes()
    with pytest.raises(SubmissionError, match=message):
        write_submission(predictions, sample, path, sizes=SIZES)
    assert path.read_bytes() == before


def test_missing_predictions_become_empty_masks_where_asked_for(sample, tmp_path):
    path = tmp_path / "submission.csv"
    write_submission({IDS[0]: PREDICTIONS[IDS[0]]}, sample, path, missing="empty")
    assert path.read_text() == text([*ROWS[:3], *(row.rsplit(",", 1)[0] + "," for row in ROWS[3:])])


def test_an_unknown_way_with_missing_predictions_is_refused(sample, tmp_path):
    with pytest.raises(SettingsError, match="missing is 'drop', expected 'error' or 'empty'"):
        write_submission(PREDICTIONS, sample, tmp_path / "submission.csv", missing="drop")


def test_the_fallback_has_every_row_of_the_sample_empty(sample, tmp_path):
    write_fallback(frame(), tmp_path / "submission.csv")
    assert (tmp_path / "submission.csv").read_bytes() == sample.read_bytes()


# real files


@pytest.mark.parametrize("name", ["run_a.csv", "run_b.csv"])
def test_real_submissions_survive_reading_and_writing(shared_data, tmp_path, name):
    path = shared_data / "predictions" / name
    write_submission(read_submission(path), path, tmp_path / name)
    assert (tmp_path / name).read_bytes() == path.read_bytes()
    assert check_submission(path, path).rows == len(read_submission(path))
