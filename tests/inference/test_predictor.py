from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from blob_scans import FixedMember, draw_blob, make_scan, see_through, write_sample, write_scan

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.rle import rle_decode, rle_encode
from gitract_kit.errors import DatasetError, SettingsError, SubmissionError
from gitract_kit.inference.predictor import Predictor
from gitract_kit.settings import PredictionSettings

PLAIN = PredictionSettings(tta="none", threshold=0.5, min_component_px=0)


def predictor(prediction: PredictionSettings = PLAIN) -> Predictor:
    return Predictor([see_through()], prediction, ORGANS)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False)


def test_threshold_is_the_organs_own():
    settings = PredictionSettings(threshold={"stomach": 0.3, "small_bowel": 0.7, "large_bowel": 0.5})
    masks = Predictor([FixedMember((0.4, 0.6, 0.4))], settings).predict_scan(make_scan())
    assert masks.dtype == bool
    assert masks.shape == (5, 3, 40, 48)
    assert masks.all(axis=(0, 2, 3)).tolist() == [False, False, True]
    assert masks.any(axis=(0, 2, 3)).tolist() == [False, False, True]


def test_small_components_are_dropped_by_organ():
    blob = int(draw_blob((40, 48)).sum())
    settings = PredictionSettings(
        min_component_px={"large_bowel": 0, "small_bowel": 2 * blob, "stomach": blob // 2}
    )
    masks = Predictor([see_through()], settings).predict_scan(make_scan())
    assert masks[2].any(axis=(1, 2)).tolist() == [True, False, True]


def test_rows_are_the_samples_own_in_its_order(make_root, tmp_path):
    root = make_root()
    sample = read(root / "sample_submission.csv").sample(frac=1, random_state=3)
    sample.to_csv(root / "sample_submission.csv", index=False)
    summary = predictor().predict(root, tmp_path / "out" / "submission.csv", progress=False)
    written = read(summary.output)
    assert list(written.columns) == ["id", "class", "predicted"]
    pd.testing.assert_frame_equal(
        written[["id", "class"]], sample[["id", "class"]].reset_index(drop=True), check_dtype=False
    )
    assert summary.rows == len(sample) == 24


def test_masks_are_where_the_organ_is(make_root, tmp_path):
    summary = predictor().predict(make_root(), tmp_path / "submission.csv", progress=False)
    table = read(summary.output)
    for scan, shape in {"case7_day3": (40, 48), "case12_day0": (52, 44)}.items():
        mask = rle_decode(table.predicted[table.id == f"{scan}_slice_0003"].iloc[0], shape)
        truth = draw_blob(shape)
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95
        assert (table.predicted[table.id == f"{scan}_slice_0001"] == "").all()


def test_file_agrees_with_the_masks_of_each_scan(make_root, tmp_path):
    root = make_root({"case1_day0": (40, 48)})
    table = read(predictor().predict(root, tmp_path / "submission.csv", progress=False).output)
    scan = make_scan()
    first, *rest = predictor().predict_scan(scan)[:4]
    expected = [rle_encode(mask) for masks in (first, *rest) for mask in masks]
    assert table.predicted.tolist() == expected


def test_twice_is_the_same_file(make_root, tmp_path):
    root = make_root()
    files = [tmp_path / name / "submission.csv" for name in ("one", "two")]
    for file in files:
        predictor().predict(root, file, progress=False)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_without_a_sample_the_rows_are_the_slices_in_natural_order(make_root, tmp_path):
    root = make_root({"case12_day0": (40, 48), "case7_day30": (40, 48), "case7_day3": (40, 48)})
    (root / "sample_submission.csv").unlink()
    table = read(predictor().predict(root, tmp_path / "submission.csv", progress=False).output)
    assert table.id.str.split("_slice").str[0].unique().tolist() == [
        "case7_day3",
        "case7_day30",
        "case12_day0",
    ]
    assert table["class"].tolist() == list(ORGANS) * 12


def test_empty_submission_stands_before_the_first_scan(make_root, tmp_path):
    root, output = make_root(), tmp_path / "submission.csv"
    seen = []

    class Watching(FixedMember):
        def predict(self, scan, wanted=None):
            seen.append(read(output))
            return super().predict(scan, wanted)

    Predictor([Watching()], PLAIN).predict(root, output, progress=False)
    pd.testing.assert_frame_equal(seen[0], read(root / "sample_submission.csv"))
    assert (seen[0].predicted == "").all()


def test_file_stays_valid_when_the_run_ends_in_the_middle(make_root, tmp_path):
    root, output = make_root(), tmp_path / "submission.csv"

    class Interrupted(FixedMember):
        calls = 0

        def predict(self, scan, wanted=None):
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().predict(scan, wanted)

    with pytest.raises(KeyboardInterrupt):
        Predictor([Interrupted()], PLAIN).predict(root, output, progress=False)
    sample = read(root / "sample_submission.csv")
    pd.testing.assert_frame_equal(read(output)[["id", "class"]], sample[["id", "class"]])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_run_record_says_what_was_done(make_root, tmp_path):
    summary = predictor().predict(make_root(), tmp_path / "submission.csv", progress=False)
    record = json.loads(summary.record.read_text())
    assert summary.record == tmp_path / "run.json"
    assert [(one["scan"], one["slices"], one["done"]) for one in record["scans"]] == [
        ("case7_day3", 4, "full"),
        ("case12_day0", 4, "full"),
    ]
    assert record["members"] == [{"name": "see-through", "role": "segment", "weight": 1.0}]
    assert record["prediction"]["tta"] == "none"
    assert record["rows"] == 24
    assert {"gitract-kit", "python", "torch"} <= set(record["versions"])


@pytest.mark.parametrize("empty", [False, True], ids=["absent", "empty"])
def test_saved_notebook_proves_itself_on_training_scans(tmp_path, empty):
    root = tmp_path / "root"
    ids = [slice_id for day in (0, 2, 5) for slice_id in write_scan(root / "train", f"case3_day{day}")]
    rows = [f"{slice_id},{organ}," for slice_id in ids for organ in ORGANS]
    (root / "train.csv").write_text("\n".join(["id,class,segmentation", *rows]) + "\n")
    write_sample(root, [])
    if empty:
        (root / "test").mkdir()
    summary = predictor().predict(root, tmp_path / "submission.csv", progress=False)
    table = read(summary.output)
    assert summary.split == "train"
    assert table.id.tolist() == [slice_id for slice_id in ids[:8] for _ in ORGANS]
    assert (table.predicted != "").sum() == 2 * 3 * 3


def test_saved_notebook_writes_the_header_alone_where_asked(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    write_sample(root, [])
    settings = PredictionSettings(on_empty_test="header")
    summary = predictor(settings).predict(root, tmp_path / "submission.csv", progress=False)
    assert summary.output.read_text() == "id,class,predicted\n"
    assert (summary.rows, summary.scans) == (0, ())


def test_training_split_is_predicted_without_the_tests_sample(make_root, tmp_path):
    root = make_root()
    ids = write_scan(root / "train", "case3_day0")
    rows = [f"{slice_id},{organ}," for slice_id in ids for organ in ORGANS]
    (root / "train.csv").write_text("\n".join(["id,class,segmentation", *rows]) + "\n")
    summary = predictor().predict(root, tmp_path / "submission.csv", split="train", progress=False)
    assert read(summary.output).id.unique().tolist() == ids


def test_rows_without_any_scan_are_an_error_and_leave_the_empty_submission(make_root, tmp_path):
    root = make_root()
    shutil.rmtree(root / "test")
    with pytest.raises(DatasetError, match="has no test"):
        predictor().predict(root, tmp_path / "submission.csv", progress=False)
    pd.testing.assert_frame_equal(read(tmp_path / "submission.csv"), read(root / "sample_submission.csv"))


def test_sample_that_repeats_a_row_is_refused(make_root, tmp_path):
    root = make_root()
    sample = root / "sample_submission.csv"
    sample.write_text(sample.read_text() + "case7_day3_slice_0002,stomach,\n")
    with pytest.raises(
        SubmissionError, match="1 row with the id and class of a row above; the first is row 25"
    ):
        predictor().predict(root, tmp_path / "submission.csv", progress=False)


def test_sample_of_other_classes_is_refused(make_root, tmp_path):
    root = make_root()
    sample = root / "sample_submission.csv"
    sample.write_text(sample.read_text().replace("stomach", "liver"))
    with pytest.raises(
        SubmissionError,
        match=r"8 rows with an unknown class; the first is row 3 .*expected large_bowel, small_bowel, stomach",
    ):
        predictor().predict(root, tmp_path / "submission.csv", progress=False)


def test_other_organs_than_the_members_are_refused():
    with pytest.raises(SettingsError, match=r"the members predict large_bowel, .*, asked for were stomach"):
        Predictor([FixedMember()], PLAIN, ("stomach",))


def test_threshold_of_an_unknown_organ_is_refused_before_any_scan():
    with pytest.raises(SettingsError, match=r"prediction.threshold names liver"):
        Predictor([FixedMember()], PredictionSettings(threshold={"liver": 0.5}))


def test_real_sample_of_four_sizes(shared_data, tmp_path):
    root = shared_data / "sample"
    summary = predictor().predict(root, tmp_path / "submission.csv", progress=False)
    sample, written = read(root / "sample_submission.csv"), read(summary.output)
    pd.testing.assert_frame_equal(written[["id", "class"]], sample[["id", "class"]])
    assert len(summary.scans) == 4
    assert np.mean(written.predicted != "") > 0.5
