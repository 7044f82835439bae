"""Folds of several kernels become one bundle, however they are mounted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gitract_kit.errors import BundleError
from gitract_kit.shipping.bundle import create_bundle, load_bundle, read_manifest
from gitract_kit.shipping.run_folders import bundle_runs, find_unfinished


@pytest.fixture
def outputs(run: Path, tmp_path: Path) -> list[Path]:
    """What two training kernels left, a fold each, as Kaggle mounts them: the run among other files."""
    places = [tmp_path / "notebooks" / "someone" / f"gitract-train-fold-{fold}" for fold in (0, 1)]
    for fold, place in enumerate(places):
        shutil.copytree(run / f"fold_{fold}", place / "run" / f"fold_{fold}")
        (place / "__results__.html").touch()
    return places


def test_mounted_folds_make_the_bundle_that_they_would_side_by_side(run, outputs, tmp_path):
    apart = bundle_runs(outputs, tmp_path / "apart", name="one")
    together = create_bundle(run, tmp_path / "together", name="one")

    assert read_manifest(apart) == read_manifest(together)
    assert [member.name for member in load_bundle(apart).members] == ["one/fold_0", "one/fold_1"]


def test_one_output_is_taken_whole_or_by_its_run(outputs, tmp_path):
    for number, given in enumerate((outputs[1], outputs[1] / "run")):
        bundled = bundle_runs([given], tmp_path / str(number))
        assert [entry["fold"] for entry in read_manifest(bundled)["members"]] == [1]


def test_folds_are_picked_from_all_runs(outputs, tmp_path):
    manifest = read_manifest(bundle_runs(outputs, tmp_path / "one", folds=[1]))

    assert [entry["fold"] for entry in manifest["members"]] == [1]


def test_a_fold_in_two_runs_is_refused(outputs, tmp_path):
    with pytest.raises(BundleError, match=r"fold_0 is in .*gitract-train-fold-0/run and in .*: a bundle of"):
        bundle_runs([outputs[0], outputs[0] / "run"], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_holds_no_run_is_refused(outputs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"empty holds no .*or the output of a training kernel"):
        bundle_runs([*outputs, tmp_path / "empty"], tmp_path / "bundle")


def test_settings_chosen_for_one_run_count_for_all_and_must_not_differ(outputs, tmp_path):
    (outputs[1] / "run" / "prediction.json").write_text(json.dumps({"tta": "hflip"}))
    assert load_bundle(bundle_runs(outputs, tmp_path / "one")).prediction.tta == "hflip"

    (outputs[0] / "run" / "prediction.json").write_text(json.dumps({"tta": "none"}))
    with pytest.raises(BundleError, match=r"prediction\.json and .* differ: lay the folds side by side"):
        bundle_runs(outputs, tmp_path / "two")


def test_folds_whose_training_has_not_ended_are_found(outputs):
    assert find_unfinished(outputs) == []

    shutil.rmtree(outputs[1] / "run" / "fold_1" / "oof")
    assert find_unfinished(outputs) == [outputs[1] / "run" / "fold_1"]
    assert find_unfinished(outputs, [0]) == []
