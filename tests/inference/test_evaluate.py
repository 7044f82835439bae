"""`evaluate_runs`: known faults of made-up runs are found, mended, and weighed honestly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from oof_runs import ORGANS, sharp, write_run

from gitract_kit.data.oof import chosen_prediction
from gitract_kit.errors import SettingsError
from gitract_kit.inference.evaluate import evaluate_runs
from gitract_kit.settings import PredictionSettings


def right_at_030(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The disc at 0.32, amid pixels of 0.27 that are no disc; the square sharp, with specks on the slices before it."""
    probabilities = sharp(masks, rng)
    halo = np.roll(masks[:, 0], 5, axis=2) & ~masks[:, 0]
    probabilities[:, 0] = np.where(masks[:, 0], 0.32, np.where(halo, 0.27, 0.02))
    probabilities[0, 1, :6, :6] = 0.95
    return probabilities


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory):
    """A run with known faults, evaluated: (folder, result)."""
    folder = write_run(tmp_path_factory.mktemp("evaluate") / "run", right_at_030)
    return folder, evaluate_runs([folder], resamples=100)


def test_known_optimum_is_found_for_each_organ(mended):
    folder, _ = mended
    chosen = json.loads((folder / "prediction.json").read_text())
    assert chosen["threshold"]["round"] == 0.3
    # specks of 36 pixels: anything that drops them does, and what cannot is not chosen
    square = {name: value["square"] for name, value in chosen.items()}
    drops = ("min_component_px", "min_area_px", "min_component_voxels", "own_gate_min_px")
    assert any(square[name] > 36 for name in drops)


def goes_on_too_far(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sharp, but drawn on with 0.75 on the slices before and behind the organ, joined to it."""
    probabilities = sharp(masks, rng)
    drawn_on = masks.any(axis=0, keepdims=True) & ~masks.any(axis=(2, 3), keepdims=True)
    probabilities[drawn_on] = 0.75
    return probabilities


def test_gate_of_the_segmenters_to_themselves_ends_organs_where_they_end(tmp_path: Path):
    """No threshold tried drops 0.75, nor does a size: the false slices are as large as the true, and touch them."""
    folder = write_run(tmp_path / "run", goes_on_too_far)
    numbers = evaluate_runs([folder], resamples=10).runs[0]
    assert numbers["own"]["scores"]["leaderboard"]["total"] < 0.9
    assert numbers["chosen"]["scores"]["leaderboard"]["total"] == pytest.approx(1.0, abs=1e-9)
    chosen = json.loads((folder / "prediction.json").read_text())
    for organ in ORGANS:
        assert chosen["own_gate_threshold"][organ] == 0.8
        assert chosen["own_gate_min_px"][organ] > 0
    read_back = chosen_prediction(folder, PredictionSettings())
    assert read_back.own_gate_min_px == chosen["own_gate_min_px"]


def test_gate_that_scans_left_out_gain_less_by_is_not_taken(tmp_path: Path):
    """What a gate fitted to one fold keeps out is false there, and all that is true in the other."""
    kinds = iter([goes_on_too_far, lambda masks, _: np.where(masks, 0.75, 0.05)])

    def draw(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return next(kinds)(masks, rng)

    folder = write_run(tmp_path / "run", draw, folds={k: [f"case{k}_day0"] for k in range(2)})
    search = evaluate_runs([folder], resamples=10).runs[0]["search"]
    totals = search["left_out_totals"]
    assert totals["clean-up and gate"] < totals["clean-up"] - 0.1
    assert search["searched"] == "clean-up"
    assert search["settings"]["own_gate_min_px"] == dict.fromkeys(ORGANS, 0)


def test_limits_of_another_run_as_gate_are_searched(tmp_path: Path):
    """The gate says 0.6 of the false slices and 0.9 of the true ones: one of the limits tried tells them apart."""

    def unsure(masks: np.ndarray, _: np.random.Generator) -> np.ndarray:
        there = masks.any(axis=(2, 3), keepdims=True)
        return np.where(there, 0.9, 0.6) * masks.any(axis=0, keepdims=True)

    run = write_run(tmp_path / "run", goes_on_too_far)
    gate = write_run(tmp_path / "gate", unsure)
    result = evaluate_runs([run], gates=[gate], resamples=10)
    numbers = result.runs[0]
    assert numbers["gates"] == [str(gate)]
    assert f"gate: {gate}" in str(result)
    assert numbers["own"]["scores"]["leaderboard"]["total"] < 0.9
    assert numbers["chosen"]["scores"]["leaderboard"]["total"] == pytest.approx(1.0, abs=1e-9)
    chosen = json.loads((run / "prediction.json").read_text())
    assert chosen["gate_threshold"] == dict.fromkeys(ORGANS, 0.8)
    assert chosen["own_gate_min_px"] == dict.fromkeys(ORGANS, 0), (
        "with a gate of its own the other is not searched"
    )
    assert not (gate / "prediction.json").exists()


def test_gate_without_a_fold_of_the_run_is_refused(tmp_path: Path):
    run = write_run(tmp_path / "run", sharp)
    gate = write_run(tmp_path / "gate", sharp, folds={0: ["case1_day0", "case1_day4"], 1: ["case2_day0"]})
    with pytest.raises(SettingsError, match="gate has no held-out probabilities of fold 2"):
        evaluate_runs([run], gates=[gate])
    with pytest.raises(SettingsError, match="a gate alone draws nothing"):
        evaluate_runs([], gates=[gate])


def test_gain_is_reported_fitted_and_left_out_and_the_score_is_the_metric_s(mended):
    _, result = mended
    numbers = result.runs[0]
    search, board = numbers["search"], numbers["chosen"]["scores"]["leaderboard"]
    assert board["total"] == pytest.approx(1.0, abs=1e-9)
    assert search["fitted_total"] == pytest.approx(board["total"], abs=1e-9)
    assert search["own_total"] == pytest.approx(numbers["own"]["scores"]["leaderboard"]["total"], abs=1e-9)
    assert search["left_out_total"] == pytest.approx(1.0, abs=1e-9)
    assert search["left_out_gain"] > 0.2
    assert (search["left_out"], search["groups"], search["kept"]) == ("fold", 3, True)
    text = str(result)
    assert f"{search['fitted_gain']:+.4f}" in text
    assert f"{search['left_out_gain']:+.4f}  the better of two searches: expect a little less" in text


def test_scores_come_by_variant_organ_fold_and_scan(mended):
    _, result = mended
    scores = result.runs[0]["own"]["scores"]
    assert list(scores) == ["leaderboard", "page", "mle-bench"]
    board = scores["leaderboard"]
    assert [one["organ"] for one in board["by_organ"]] == list(ORGANS)
    assert [(one["fold"], one["scans"]) for one in board["by_fold"]] == [(0, 2), (1, 1), (2, 1)]
    assert {one["scan"]: (one["case"], one["fold"]) for one in board["by_scan"]}["case3_day1"] == ("case3", 2)
    # at 0.5 the disc is not drawn at all, which is Dice 0 and distance 1
    assert board["by_organ"][0]["total"] == 0.0
    assert scores["page"]["total"] < board["total"]
    low, high = board["interval"]["total"]
    assert low <= board["total"] <= high


def test_scan_of_one_fold_scores_as_its_fold(mended):
    _, result = mended
    board = result.runs[0]["own"]["scores"]["leaderboard"]
    by_scan = {one["scan"]: one["total"] for one in board["by_scan"]}
    assert by_scan["case2_day0"] == pytest.approx(board["by_fold"][1]["total"])


def test_evaluation_json_holds_what_the_result_holds(mended):
    folder, result = mended
    numbers = json.loads((folder / "evaluation.json").read_text())
    assert numbers["format"] == 1
    assert numbers["scans"] == 4
    assert numbers["cases"] == 3
    assert numbers["search"]["left_out_gain"] == result.runs[0]["search"]["left_out_gain"]
    assert set(result.written) == {folder / "evaluation.json", folder / "prediction.json"}


def test_chosen_settings_go_over_the_runs_own(mended):
    folder, _ = mended
    chosen = chosen_prediction(folder, PredictionSettings(tta="none", threshold=0.7))
    assert (chosen.tta, chosen.threshold["round"]) == ("none", 0.3)


def test_run_without_chosen_settings_keeps_its_own(tmp_path: Path):
    own = PredictionSettings(threshold=0.7)
    assert chosen_prediction(tmp_path, own) == own


@pytest.mark.parametrize("content", ["{", "[]", '{"treshold": 0.5}', '{"threshold": 7}'])
def test_damaged_chosen_settings_are_an_error_that_names_the_file(tmp_path: Path, content: str):
    (tmp_path / "prediction.json").write_text(content)
    with pytest.raises(SettingsError, match=r"prediction\.json: .*gitract evaluate"):
        chosen_prediction(tmp_path, PredictionSettings())


def test_gain_that_scans_left_out_do_not_share_is_not_kept(tmp_path: Path):
    """One scan is only drawn at 0.35, one needs 0.5, one 0.65: what suits all three best suits none left out."""
    levels = iter([0.35, 0.5, 0.65])

    def drawn_at_its_own_level(masks: np.ndarray, _: np.random.Generator) -> np.ndarray:
        level = next(levels)
        return np.where(masks, level + 0.01, np.where(np.roll(masks, 4, axis=2), level - 0.01, 0.02))

    folder = write_run(
        tmp_path / "run", drawn_at_its_own_level, folds={k: [f"case{k}_day0"] for k in range(3)}
    )
    result = evaluate_runs([folder], resamples=10)
    search = result.runs[0]["search"]
    assert search["fitted_gain"] > 0
    assert search["left_out_gain"] <= 0
    assert not search["kept"]
    assert "not kept" in str(result)
    assert json.loads((folder / "prediction.json").read_text())["threshold"] == dict.fromkeys(ORGANS, 0.5)


def test_one_fold_is_judged_by_leaving_out_cases(tmp_path: Path):
    folder = write_run(tmp_path / "run", right_at_030, folds={0: ["case1_day0", "case1_day2", "case2_day0"]})
    search = evaluate_runs([folder], resamples=10).runs[0]["search"]
    assert (search["left_out"], search["groups"], search["kept"]) == ("case", 2, True)


def test_one_case_chooses_nothing_and_says_so(tmp_path: Path):
    folder = write_run(tmp_path / "run", right_at_030, folds={0: ["case1_day0"]})
    result = evaluate_runs([folder], resamples=10)
    assert result.runs[0]["search"]["left_out_total"] is None
    assert result.runs[0]["chosen"] == result.runs[0]["own"]
    assert "nothing can be left out" in str(result)
    assert "one case: none" in str(result)


def test_without_search_nothing_is_chosen(tmp_path: Path):
    folder = write_run(tmp_path / "run", sharp)
    result = evaluate_runs([folder], search=False, resamples=10)
    assert result.written == (folder / "evaluation.json",)
    assert not (folder / "prediction.json").exists()
    assert result.runs[0]["own"]["scores"]["leaderboard"]["total"] == pytest.approx(1.0)


def test_worst_scans_come_first_and_are_ten_at_most(tmp_path: Path):
    scans = [f"case{number}_day0" for number in range(1, 13)]
    drawn = iter(scans)

    def fail_twice(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        probabilities, scan = sharp(masks, rng), next(drawn)
        if scan == "case7_day0":
            probabilities[:] = 0.0
        if scan == "case9_day0":
            probabilities[:, 0] = 0.0
        return probabilities

    folder = write_run(tmp_path / "run", fail_twice, folds={0: scans})
    worst = evaluate_runs([folder], search=False, resamples=10).runs[0]["worst_scans"]
    assert len(worst) == 10
    assert [one["scan"] for one in worst[:2]] == ["case7_day0", "case9_day0"]
    assert [one["total"] > 0.99 for one in worst] == [False] * 2 + [True] * 8


def test_ensemble_gives_the_weight_to_the_good_run(tmp_path: Path):
    def elsewhere(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return sharp(np.roll(masks, 12, axis=3), rng)

    good, bad = write_run(tmp_path / "good", sharp), write_run(tmp_path / "bad", elsewhere)
    result = evaluate_runs([bad, good], resamples=10)
    bad_weight, good_weight = result.ensemble["weights"]
    assert good_weight > bad_weight
    assert result.ensemble["weight_search"]["kept"]
    assert result.ensemble["own"]["scores"]["leaderboard"]["total"] == pytest.approx(1.0, abs=1e-3)
    assert json.loads((bad / "ensemble.json").read_text())["weights"] == [bad_weight, good_weight]
    assert len(result.runs) == 2


def test_ensemble_is_scored_on_the_folds_that_all_runs_have_and_says_so(tmp_path: Path):
    scans = {0: ["case1_day0"], 1: ["case2_day0"], 2: ["case3_day0"]}
    runs = [
        write_run(tmp_path / "one", sharp, folds=scans),
        write_run(tmp_path / "other", sharp, folds={0: scans[0], 1: scans[1]}),
    ]
    result = evaluate_runs(runs, search=False, resamples=10)
    assert (result.ensemble["folds"], result.ensemble["folds_left_out"]) == ([0, 1], [2])
    assert result.ensemble["weights"] == [0.5, 0.5]
    assert "fold 2 is left out" in str(result)


def test_runs_that_do_not_belong_together_leave_no_files(tmp_path: Path):
    runs = [write_run(tmp_path / "one", sharp), write_run(tmp_path / "two", sharp, fingerprint="0")]
    with pytest.raises(SettingsError, match="two was trained on other data"):
        evaluate_runs(runs)
    assert not list(tmp_path.glob("*/*.json"))


def test_trained_fold_scores_as_its_training_said(run: Path, tmp_path: Path):
    """Training scores at 0.5 without clean-up; 0.5 is the same in 8 bits."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    said = []
    for path in sorted(copy.glob("fold_*/model.json")):
        about = json.loads(path.read_text())
        about["settings"]["prediction"] = {"threshold": 0.5, "min_component_px": 0}
        path.write_text(json.dumps(about))
        said.append(about["score"]["total"])
    by_fold = evaluate_runs([copy], search=False, resamples=10).runs[0]["own"]["scores"]["leaderboard"][
        "by_fold"
    ]
    assert [one["fold"] for one in by_fold] == [0, 1]
    assert [one["total"] for one in by_fold] == pytest.approx(said, abs=1e-9)
