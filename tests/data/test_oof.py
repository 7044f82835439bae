"""Held-out probabilities: read back as they were written, and refused where they do not belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from oof_runs import ORGANS, SHAPE, draw_truth, sharp, write_run

from gitract_kit.data.oof import common_folds, load_oof, load_runs, read_scan, weighted_mean
from gitract_kit.errors import DatasetError, SettingsError


def test_truth_and_probabilities_come_back_in_the_order_of_the_slices(tmp_path: Path):
    run = load_oof(write_run(tmp_path / "run", sharp))
    rows = run.index[run.index["scan"] == "case2_day0"].sample(frac=1, random_state=0)
    held_out = read_scan([run], rows)
    masks = draw_truth(np.random.default_rng(list(b"case2_day0")))
    np.testing.assert_array_equal(held_out.masks_true, masks)
    np.testing.assert_allclose(held_out.mean([1.0]), sharp(masks, None), atol=0.5 / 255)
    assert held_out.scan.ids[0] == "case2_day0_slice_0001"
    assert held_out.scan.shape == SHAPE[1:]
    assert held_out.scan.spacing_mm == (1.5, 1.5)


def test_run_says_which_folds_it_has_and_which_have_not_ended(tmp_path: Path):
    folder = write_run(tmp_path / "run", sharp)
    (folder / "fold_1" / "oof" / "index.csv").unlink()
    run = load_oof(folder)
    assert (run.folds, run.unfinished, run.organs) == ([0, 2], (1,), ORGANS)


def test_probabilities_of_either_memory_order_come_back(tmp_path: Path):
    run = load_oof(write_run(tmp_path / "run", sharp))
    rows = run.index[run.index["scan"] == "case2_day0"]
    path = run.folder / f"fold_{rows['fold'].iloc[0]}" / "oof" / "case2_day0.npz"
    drawn = np.random.default_rng(0).integers(0, 256, run.probabilities(rows).shape, dtype=np.uint8)
    for order in "CF":
        np.savez_compressed(path, probabilities=np.asarray(drawn, order=order))
        np.testing.assert_array_equal(run.probabilities(rows), drawn)


def test_weighted_mean_is_that_of_the_probabilities():
    rng = np.random.default_rng(0)
    runs = [rng.integers(0, 256, (3, 2, 4, 5), dtype=np.uint8) for _ in range(3)]
    expected = (0.5 * runs[0] + 0.0 * runs[1] + 1.5 * runs[2].astype(float)) / 2 / 255
    mean = weighted_mean(runs, [0.5, 0.0, 1.5])
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    np.testing.assert_array_equal(weighted_mean(runs[:1], [0.3]), runs[0] / np.float32(255))


def test_runs_of_other_data_are_refused(tmp_path: Path):
    runs = [
        write_run(tmp_path / "one", sharp),
        write_run(tmp_path / "other", sharp, fingerprint="0" * 64),
    ]
    with pytest.raises(SettingsError, match=r"other was trained on other data or folds \(0{12}\) than .*one"):
        load_runs(runs)


def test_runs_of_other_organs_are_refused(tmp_path: Path):
    runs = [
        write_run(tmp_path / "one", sharp),
        write_run(tmp_path / "other", sharp, organs=("square", "round")),
    ]
    with pytest.raises(SettingsError, match=r"other predicts square, round, .*one round, square"):
        load_runs(runs)


def test_run_given_twice_is_refused(tmp_path: Path):
    run = write_run(tmp_path / "run", sharp)
    with pytest.raises(SettingsError, match="given twice"):
        load_runs([run, tmp_path / "." / "run"])


def test_folds_of_other_data_in_one_run_are_refused(tmp_path: Path):
    folder = write_run(tmp_path / "run", sharp)
    path = folder / "fold_1" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data_fingerprint": "other"}))
    with pytest.raises(DatasetError, match="fold 1 was trained on other data or folds than fold 0"):
        load_oof(folder)


def test_scan_held_out_by_two_folds_is_refused(tmp_path: Path):
    folder = write_run(tmp_path / "run", sharp, folds={0: ["case1_day0"], 1: ["case1_day0"]})
    with pytest.raises(DatasetError, match="case1_day0_slice_0001 is held out twice"):
        load_oof(folder)


def test_folds_that_only_some_runs_have_are_named(tmp_path: Path):
    runs = load_runs(
        [
            write_run(tmp_path / "one", sharp, folds={0: ["case1_day0"], 1: ["case2_day0"]}),
            write_run(tmp_path / "other", sharp, folds={1: ["case2_day0"], 2: ["case3_day0"]}),
        ]
    )
    assert common_folds(runs) == ([1], [0, 2])


def test_runs_without_a_common_fold_are_refused(tmp_path: Path):
    runs = load_runs(
        [
            write_run(tmp_path / "one", sharp, folds={0: ["case1_day0"]}),
            write_run(tmp_path / "other", sharp, folds={2: ["case3_day0"]}),
        ]
    )
    with pytest.raises(SettingsError, match=r"share no fold \(.*one has 0; .*other has 2\)"):
        common_folds(runs)


@pytest.mark.parametrize("damage", ["missing", "torn", "other shape", "other type", "other name"])
def test_damaged_probabilities_are_an_error_that_names_the_file(tmp_path: Path, damage: str):
    run = load_oof(write_run(tmp_path / "run", sharp))
    path = run.folder / "fold_1" / "oof" / "case2_day0.npz"
    good = np.load(path)["probabilities"]
    path.unlink()
    if damage == "torn":
        path.write_bytes(b"PK\x03\x04 and no more")
    elif damage == "other shape":
        np.savez(path, probabilities=good[1:])
    elif damage == "other type":
        np.savez(path, probabilities=good.astype(np.float32))
    elif damage == "other name":
        np.savez(path, arr=good)
    with pytest.raises(DatasetError, match=r"case2_day0\.npz: .*train the fold again"):
        read_scan([run], run.index[run.index["scan"] == "case2_day0"])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.json", "{", "cannot be read as JSON"),
        ("model.json", "[]", "lacks settings, data_fingerprint"),
        ("oof/index.csv", "id,case\n", "lacks the columns scan, path"),
        ("oof/index.csv", "", "cannot be read as a table"),
    ],
)
def test_damaged_fold_is_an_error_that_names_the_file(tmp_path: Path, file: str, content: str, message: str):
    folder = write_run(tmp_path / "run", sharp)
    (folder / "fold_1" / file).write_text(content)
    with pytest.raises(DatasetError, match=rf"fold_1/{file}: {message}"):
        load_oof(folder)


def test_folder_without_held_out_probabilities_is_an_error(tmp_path: Path):
    with pytest.raises(DatasetError, match="give the run folder of `gitract train`"):
        load_oof(tmp_path)


def test_no_run_is_an_error():
    with pytest.raises(SettingsError, match="no run was given"):
        load_runs([])
