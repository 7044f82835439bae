"""The page is one file, says what the score says, and takes no text for markup."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from page_reader import Page, numbers
from scipy import ndimage

from gitract_kit.competition.index import read_labels
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.metric import VARIANTS, competition_score
from gitract_kit.competition.rle import rle_decode
from gitract_kit.data.prepare import load_prepared
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.inference.evaluate import evaluate_runs
from gitract_kit.report.html import write_report, write_submission_report


def scans_of(page: Page) -> list[dict]:
    return [json.loads(text) for name, text in page.scripts.items() if name.startswith("scan-")]


@pytest.fixture(scope="module")
def read(page: Path) -> Page:
    return Page(page)


@pytest.fixture(scope="module")
def blank_submission(phantom, tmp_path_factory) -> Path:
    """The solution as a submission, with every mask of the first test scan left out."""
    rows = pd.read_csv(phantom.solution, dtype=str, keep_default_na=False)
    rows = rows.rename(columns={"segmentation": "predicted"})
    first = rows["id"].str.startswith(rows["id"][0].split("_slice_")[0] + "_")
    rows.loc[first, "predicted"] = ""
    path = tmp_path_factory.mktemp("submission") / "submission.csv"
    rows.to_csv(path, index=False)
    return path


def test_every_part_is_there(read):
    assert read.headings == ["Run a <b> & c", "Score", "Slices", "Scans", "Organs", "Learning curves"]
    assert read.open == []
    assert len(read.ids) == len(set(read.ids))
    assert {"scores", "scans", "picture", "slice", "scan", "lanes", "opacity"} <= set(read.ids)


def test_nothing_is_fetched_from_anywhere(read):
    assert re.findall(r"https?:|//[a-z]|@import|url\(", re.sub(r"//[ a-z].*", "", read.text)) == []
    assert "://" not in read.text
    assert all(address.startswith("data:") for address in read.addresses)
    assert "default-src 'none'" in read.text


def test_the_score_table_holds_the_competition_score(read, made_run, work):
    index = load_prepared(work).index
    scans = {scan["name"]: scan for scan in scans_of(read)}
    truth = index.melt("id", list(ORGANS), "class", "segmentation")
    predicted = pd.concat([predict_by_hand(made_run, rows) for _, rows in index.groupby("scan")])
    score = competition_score(truth, predicted, index)
    table = read.tables["scores"]
    assert table[2][0] == "All scans"
    found = numbers(table[2][1:])
    assert found[:3] == pytest.approx([score.total, score.dice, score.hausdorff], abs=6e-4)
    for k, organ in enumerate(ORGANS):
        expected = score.by_organ.loc[organ, ["total", "dice", "hausdorff"]].tolist()
        assert found[3 * k + 3 : 3 * k + 6] == pytest.approx(expected, abs=6e-4)
    assert [row[0] for row in table[3:]] == ["Fold 0", "Fold 1", "Fold 2"]
    assert set(scans) == set(index["scan"])
    assert "leaderboard" in read.text


def test_every_variant_and_its_interval_stand_in_the_page(read, made_run, work):
    index = load_prepared(work).index
    truth = index.melt("id", list(ORGANS), "class", "segmentation")
    predicted = pd.concat([predict_by_hand(made_run, rows) for _, rows in index.groupby("scan")])
    rows = {row[0]: row[1:] for row in read.tables["variants"][1:]}
    assert list(rows) == list(VARIANTS)
    for variant, cells in rows.items():
        score = competition_score(truth, predicted, index, variant)
        found = [float(cell[:6]) for cell in cells]
        assert found == pytest.approx([score.total, score.dice, score.hausdorff], abs=6e-5)
        for value, cell in zip(found, cells, strict=True):
            low, high = map(float, cell[6:].split("\u2013"))
            assert low - 6e-4 <= value <= high + 6e-4


def test_the_page_of_an_evaluated_run_says_what_evaluate_found(evaluated, evaluated_page):
    page = Page(evaluated_page)
    told = json.loads((evaluated / "evaluation.json").read_text())
    assert page.headings[1:3] == ["Score", "Settings"]
    for variant, cells in ((row[0], row[1:]) for row in page.tables["variants"][1:]):
        score = told["chosen"]["scores"][variant]
        for name, cell in zip(("total", "dice", "hausdorff"), cells, strict=True):
            low, high = score["interval"][name]
            assert cell == f"{score[name]:.4f}{low:.3f}\u2013{high:.3f}"
    found = told["search"]
    assert [row[1] for row in page.tables["gains"][1:]] == [
        f"{found[name]:.4f}" for name in ("own_total", "fitted_total", "left_out_total")
    ]
    assert page.tables["gains"][2][2] == f"{found['fitted_gain']:+.4f}"
    settings = {row[0]: row[1:] for row in page.tables["found"][1:]}
    for organ, cell in zip(ORGANS, settings["Threshold"], strict=True):
        own, fitted = told["own"]["prediction"]["threshold"][organ], found["settings"]["threshold"][organ]
        assert cell == (f"{own:g}" if own == fitted else f"{own:g} \u2192 {fitted:g}")
    assert "Gate's threshold" not in settings


def test_an_evaluation_of_other_masks_is_left_out_and_that_is_said(evaluated, tmp_path):
    changed = shutil.copytree(evaluated, tmp_path / "changed")
    (changed / "prediction.json").write_text('{"threshold": 0.9}')
    page = Page(write_report(changed, tmp_path / "page.html", max_scans=0))
    assert "Settings" not in page.headings
    assert "run gitract evaluate again" in page.text


def test_a_search_that_gains_nothing_elsewhere_says_so(evaluated, tmp_path):
    """The one thing changed by hand: what would be there if scans left out had gained nothing."""
    changed = shutil.copytree(evaluated, tmp_path / "changed")
    told = json.loads((changed / "evaluation.json").read_text())
    told["search"]["kept"] = False
    told["chosen"] = told["own"]
    (changed / "evaluation.json").write_text(json.dumps(told))
    (changed / "prediction.json").write_text(json.dumps(told["own"]["prediction"]))
    page = Page(write_report(changed, tmp_path / "page.html", max_scans=0))
    assert "the own settings stay" in page.text


def test_a_run_behind_a_gate_scores_what_evaluate_says(made_run, rival, tmp_path):
    run = shutil.copytree(made_run, tmp_path / "run")
    told = evaluate_runs([run], gates=[rival], search=False).runs[0]
    score = told["own"]["scores"]["leaderboard"]
    gated = Page(write_report(run, tmp_path / "page.html", max_scans=0))
    assert gated.tables["variants"][1][1].startswith(f"{score['total']:.4f}")
    assert "gate&#x27;s threshold 0.5" in gated.text
    told["gates"] = [str(tmp_path / "gone")]
    (run / "evaluation.json").write_text(json.dumps(told))
    with pytest.raises(DatasetError, match="gone"):
        write_report(run, tmp_path / "page.html", max_scans=0)


def predict_by_hand(run: Path, rows: pd.DataFrame) -> pd.DataFrame:
    path = run / f"fold_{rows['fold'].iloc[0]}" / "oof" / f"{rows['scan'].iloc[0]}.npz"
    masks = drop_specks(np.load(path)["probabilities"] / 255 >= 0.5, 25)
    return pd.DataFrame(
        [
            {"id": slice_id, "class": organ, "predicted": slow_rle(masks[z, k])}
            for z, slice_id in enumerate(rows["id"])
            for k, organ in enumerate(ORGANS)
        ]
    )


def drop_specks(masks: np.ndarray, least: int) -> np.ndarray:
    """Without the components of a slice under ``least`` pixels, as the settings of these runs ask."""
    for mask in masks.reshape(-1, *masks.shape[2:]):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        for label in range(1, count + 1):
            if (labels == label).sum() < least:
                mask[labels == label] = False
    return masks


def slow_rle(mask: np.ndarray) -> str:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel().astype(int), [0]])))
    return " ".join(f"{start + 1} {end - start}" for start, end in edges.reshape(-1, 2))


def test_scans_are_listed_worst_first_in_table_and_browser(read):
    rows = read.tables["scans"][1:]
    scores = numbers(row[1] for row in rows)
    assert scores == sorted(scores)
    assert [scan["name"] for scan in scans_of(read)] == [row[0] for row in rows]


def test_the_browser_holds_every_slice_and_its_pixel_counts(read, work):
    index = load_prepared(work).index
    for scan in scans_of(read):
        rows = index[index["scan"] == scan["name"]]
        shape = int(rows["height"].iloc[0]), int(rows["width"].iloc[0])
        assert scan["numbers"] == rows["slice"].tolist()
        assert (scan["height"], scan["width"]) == shape
        assert len(scan["images"]) == len(scan["truth"]) == len(scan["prediction"]) == len(rows)
        true = [[int(rle_decode(rle, shape).sum()) for rle in row] for row in rows[list(ORGANS)].to_numpy()]
        assert [[counts[0] for counts in organs] for organs in scan["pixels"]] == true
        drawn = [[bool(outlines) for outlines in organs] for organs in scan["truth"]]
        assert drawn == [[count > 0 for count in organs] for organs in true]


def test_only_the_worst_scans_go_into_the_browser(made_run, tmp_path, read):
    few = Page(write_report(made_run, tmp_path / "few.html", max_scans=1))
    assert [scan["name"] for scan in scans_of(few)] == [read.tables["scans"][1][0]]
    assert "1 of 3 scans" in few.text
    assert len(few.tables["scans"]) == 4


def test_fewer_scans_than_none_are_refused(made_run, tmp_path):
    with pytest.raises(SettingsError, match="max_scans is -1"):
        write_report(made_run, tmp_path / "page.html", max_scans=-1)


def test_the_report_goes_beside_the_run_where_no_place_is_given(made_run):
    path = write_report(made_run, max_scans=0)
    assert path == made_run / "report.html"
    path.unlink()


def test_a_threshold_found_after_training_counts(made_run, tmp_path):
    changed = shutil.copytree(made_run, tmp_path / "changed")
    (changed / "prediction.json").write_text(json.dumps({"threshold": dict.fromkeys(ORGANS, 0.9)}))
    found, before = (
        Page(write_report(run, tmp_path / "page.html", max_scans=0)) for run in (changed, made_run)
    )
    assert "chosen by evaluate: threshold 0.9" in found.text
    assert "own settings: threshold 0.5" in before.text
    assert numbers(found.tables["scores"][2][1:]) != numbers(before.tables["scores"][2][1:])


def test_the_threshold_itself_counts_as_reached(made_run, tmp_path):
    changed = shutil.copytree(made_run, tmp_path / "changed")
    (changed / "prediction.json").write_text('{"threshold": 0.2}')
    for path in changed.glob("fold_*/oof/*.npz"):
        probabilities = np.load(path)["probabilities"]
        np.savez(path, probabilities=np.full_like(probabilities, 51))
    page = Page(write_report(changed, tmp_path / "page.html"))
    for scan in scans_of(page):
        whole = scan["height"] * scan["width"]
        assert {counts[1] for organs in scan["pixels"] for counts in organs} == {whole}


def test_a_submission_gets_the_same_page_without_curves(phantom, blank_submission, tmp_path):
    path = write_submission_report(blank_submission, phantom.solution, phantom.root, tmp_path / "page.html")
    page = Page(path)
    assert page.headings == ["Submission submission.csv", "Score", "Slices", "Scans", "Organs"]
    worst, best = scans_of(page)
    assert worst["name"] in read_labels(phantom.solution)["id"][0]
    assert all(outlines == [] for organs in worst["prediction"] for outlines in organs)
    assert best["prediction"] == best["truth"]
    assert [float(row[1]) for row in page.tables["scans"][1:]] == [0.0, 1.0]
    assert [row[0] for row in page.tables["variants"][1:]] == list(VARIANTS)
    assert "://" not in page.text


def test_slices_that_one_table_lacks_are_left_out_and_counted(phantom, blank_submission, tmp_path):
    rows = pd.read_csv(blank_submission, dtype=str, keep_default_na=False)
    rows[3:].to_csv(tmp_path / "short.csv", index=False)
    page = Page(
        write_submission_report(
            tmp_path / "short.csv", phantom.solution, phantom.root, tmp_path / "page.html"
        )
    )
    assert "1 slices that only one of the tables has" in page.text


def test_scans_that_the_folder_lacks_are_left_out(phantom, blank_submission, tmp_path):
    root = shutil.copytree(phantom.root, tmp_path / "root")
    gone = scans_of(
        Page(write_submission_report(blank_submission, phantom.solution, root, tmp_path / "a.html"))
    )[0]["name"]
    shutil.rmtree(root / "test" / gone.partition("_")[0] / gone)
    page = Page(write_submission_report(blank_submission, phantom.solution, root, tmp_path / "b.html"))
    assert gone not in [scan["name"] for scan in scans_of(page)]
    assert [float(row[1]) for row in page.tables["scans"][1:]] == [1.0]


def test_a_trained_run_has_a_report(run, tmp_path):
    page = Page(write_report(run, tmp_path / "report.html"))
    assert [row[0] for row in page.tables["scores"][2:]] == ["All scans", "Fold 0", "Fold 1"]


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (lambda run: shutil.rmtree(run), DatasetError, "fold_*/oof/index.csv"),
        (lambda run: (run / "fold_1" / "model.json").unlink(), DatasetError, "model.json"),
        (lambda run: next(run.glob("fold_1/oof/*.npz")).write_bytes(b"PK torn"), DatasetError, ".npz"),
        (lambda run: next(run.glob("fold_1/oof/*.npz")).unlink(), DatasetError, ".npz"),
        (
            lambda run: np.savez(
                next(run.glob("fold_1/oof/*.npz")), probabilities=np.zeros((2, 3, 4, 4), np.uint8)
            ),
            DatasetError,
            "expected uint8",
        ),
        (
            lambda run: (run / "prediction.json").write_text('{"threshold": {"liver": 0.3}}'),
            SettingsError,
            "liver",
        ),
        (lambda run: (run / "prediction.json").write_text('{"treshold": 0.3}'), SettingsError, "threshold"),
        (
            lambda run: (run / "fold_1" / "metrics.csv").write_bytes(b""),
            DatasetError,
            "metrics.csv is no table",
        ),
        (
            lambda run: (run / "evaluation.json").write_text("{}"),
            DatasetError,
            "evaluation.json cannot be read",
        ),
        (
            lambda run: (run / "evaluation.json").write_text("[]"),
            DatasetError,
            "evaluation.json cannot be read",
        ),
        (lambda run: (run / "fold_x").mkdir() or (run / "fold_1").rename(run / "fold_x" / "oof"), None, ""),
    ],
)
def test_a_spoilt_run_is_refused_by_name(made_run, tmp_path, spoil, error, told):
    spoilt = shutil.copytree(made_run, tmp_path / "spoilt")
    spoil(spoilt)
    if error is None:
        write_report(spoilt, tmp_path / "page.html")
        return
    with pytest.raises(error, match=re.escape(told)):
        write_report(spoilt, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_work_folder_that_has_gone_is_named(made_run, tmp_path):
    with pytest.raises(DatasetError, match=r"gone.*gitract prepare"):
        write_report(made_run, tmp_path / "page.html", work=tmp_path / "gone")


def test_tables_without_a_common_slice_are_refused(phantom, blank_submission, tmp_path):
    rows = pd.read_csv(blank_submission, dtype=str, keep_default_na=False)
    rows["id"] = rows["id"].str.replace("case", "case9")
    rows.to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DatasetError, match="no slice in common"):
        write_submission_report(
            tmp_path / "other.csv", phantom.solution, phantom.root, tmp_path / "page.html"
        )
