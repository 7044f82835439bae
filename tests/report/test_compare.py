"""A comparison says of each run what the run says of itself, and shows the same slices for all."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_runs import write_run
from page_reader import Page
from picture_folders import write_folder

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.rle import rle_decode
from gitract_kit.data.overlay import PALETTE
from gitract_kit.data.prepare import load_prepared, prepare
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.inference.evaluate import evaluate_runs
from gitract_kit.models import create_model, factory
from gitract_kit.models.losses import dice_loss
from gitract_kit.report.compare import compare_runs
from gitract_kit.report.compare_table import _measured, describe
from gitract_kit.report.comparison import compare, count_parameters, differing_settings
from gitract_kit.report.contents import OWN_ARCHITECTURES
from gitract_kit.report.gallery import _window, draw_gallery
from gitract_kit.report.html import write_report
from gitract_kit.settings import PredictionSettings, load_preset, override_settings, settings_to_dict


@pytest.fixture(scope="module")
def comparison(made_run, rival):
    return compare([made_run, rival])


def columns_of(rows: list[list[str]]) -> dict[str, list[str]]:
    head, *body = rows
    return {name: [row[k] for row in body] for k, name in enumerate(head)}


def markdown_rows(text: str, number: int) -> list[list[str]]:
    """The cells of the ``number``-th table of a Markdown text."""
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    lines = [line for line in tables[number].splitlines() if set(line) - set("|-: ")]
    split = [line.replace("\\|", "\0").strip("|").split("|") for line in lines]
    return [[cell.replace("\0", "|").strip() for cell in cells] for cells in split]


def test_markdown_and_page_hold_the_same_table(compared):
    rows = markdown_rows((compared / "compare.md").read_text(encoding="utf-8"), 0)
    page = Page(compared / "compare.html").tables["comparison"]
    assert [[cell.replace("**", "") for cell in row] for row in rows] == page
    table = columns_of(page)
    assert table["Model"] == ["a <b> & c", "rival|<i>"]
    assert table["Network"] == ["unet, tu-resnet10t", "fpn, tu-resnet10t"]
    assert table["Seconds an epoch"] == ["8.2", "8.2"]
    # these runs were made up without weights
    assert table["Parameters"] == ["\u2013", "\u2013"]


def test_the_best_of_a_column_is_bold_and_the_lowest_distance_is_the_best(compared):
    table = columns_of(markdown_rows((compared / "compare.md").read_text(encoding="utf-8"), 0))
    for name in ("Loss Dice", "Accuracy Dice", "Dice", "Hausdorff", "Score", "Dice, stomach"):
        better, worse = table[name]
        assert better.startswith("**")
        assert not worse.startswith("**")
    assert float(table["Hausdorff"][0].strip("*")) < float(table["Hausdorff"][1])


def test_scores_are_those_that_evaluate_finds(made_run, comparison, tmp_path):
    run = shutil.copytree(made_run, tmp_path / "run")
    found = evaluate_runs([run], search=False).runs[0]["own"]["scores"]["leaderboard"]
    score = comparison.models[0].scored.score
    assert (score.total, score.dice, score.hausdorff) == pytest.approx(
        (found["total"], found["dice"], found["hausdorff"]), abs=1e-12
    )
    assert comparison.models[0].scored.interval["total"] == pytest.approx(found["interval"]["total"])


def test_loss_dice_is_what_the_dice_loss_leaves(rival, work, comparison):
    index = load_prepared(work).index
    losses = []
    for name, rows in index.groupby("scan"):
        path = rival / f"fold_{rows['fold'].iloc[0]}" / "oof" / f"{name}.npz"
        probabilities = torch.from_numpy(np.load(path)["probabilities"] / 255)
        target = torch.from_numpy(true_masks(rows)).float()
        losses.append(float(dice_loss(torch.logit(probabilities).float(), target)))
    assert comparison.models[1].loss_dice == pytest.approx(1 - np.mean(losses), abs=1e-5)


def test_accuracy_dice_counts_slices_empty_on_both_sides_as_1(work, comparison):
    index = load_prepared(work).index
    predicted = comparison.models[1].contents.prediction.set_index(["id", "class"])["predicted"]
    values = []
    for row in index.to_dict("records"):
        shape = row["height"], row["width"]
        for organ in ORGANS:
            truth, mask = rle_decode(row[organ], shape), rle_decode(predicted[row["id"], organ], shape)
            total = truth.sum() + mask.sum()
            values.append(2 * (truth & mask).sum() / total if total else 1.0)
    assert comparison.models[1].accuracy_dice == pytest.approx(np.mean(values), abs=1e-12)


def true_masks(rows) -> np.ndarray:
    shape = int(rows["height"].iloc[0]), int(rows["width"].iloc[0])
    return np.array([[rle_decode(rle, shape) for rle in row] for row in rows[list(ORGANS)].to_numpy()])


def test_parameters_are_those_of_the_network(run, small_settings):
    network = create_model(small_settings.model, in_channels=3, classes=3)
    expected = sum(one.numel() for one in network.parameters())
    assert count_parameters(run / "fold_0" / "model.safetensors") == expected


def test_a_lead_is_told_with_its_interval(comparison, compared):
    lead = comparison.models[0].scored.score.total - comparison.models[1].scored.score.total
    text = (compared / "compare.md").read_text(encoding="utf-8")
    assert f"a <b> & c, by {lead:.4f} of rival|<i>: " in text
    assert "may be chance" not in text


def test_weights_with_a_torn_header_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((100).to_bytes(8, "little") + b'{"weight": {"sha')
    with pytest.raises(DatasetError, match=r"model\.safetensors: its header cannot be read"):
        count_parameters(path)


def test_the_settings_that_differ_are_listed_and_no_other(compared):
    text = (compared / "compare.md").read_text(encoding="utf-8")
    rows = markdown_rows(text, 1)
    assert rows[1:] == [["model.architecture", "unet", "fpn"], ["training.epochs", "2", "5"]]
    assert Page(compared / "compare.html").tables["differing"] == rows


def test_the_reports_own_architectures_are_the_models():
    assert set(factory._OWN) == OWN_ARCHITECTURES


def test_encoders_are_not_told_of_networks_that_take_none(made_run, work, small_settings, tmp_path):
    runs = []
    for name, encoder in (("unet_2015", "tu-resnet10t"), ("resunetplusplus", "tu-resnet34")):
        changes = [f"model.architecture={name}", f"model.encoder={encoder}", "model.encoder_depth=4"]
        runs.append(write_run(tmp_path / name, work, override_settings(small_settings, changes)))

    own, mixed = compare(runs), compare([made_run, runs[1]])

    assert [model.network for model in own.models] == ["unet_2015", "resunetplusplus"]
    assert [model.contents.facts["Network"] for model in own.models] == ["unet_2015", "resunetplusplus"]
    assert differing_settings(own.models) == {"model.architecture": ["unet_2015", "resunetplusplus"]}
    differing = differing_settings(mixed.models)
    assert differing["model.architecture"] == ["unet", "resunetplusplus"]
    assert differing["model.encoder"] == ["tu-resnet10t", "-"]


def test_the_page_needs_nothing_beside_it_and_takes_no_name_for_markup(compared):
    page = Page(compared / "compare.html")
    assert page.open == []
    assert page.headings == [
        "a <b> & c and rival|<i> compared",
        "Score",
        "Slices",
        "Organs",
        "Learning curves",
        "Settings that differ",
    ]
    assert all(address.startswith("data:") for address in page.addresses)
    assert "://" not in page.text
    assert "![" in (compared / "compare.md").read_text(encoding="utf-8")
    assert "(compare.png)" in (compared / "compare.md").read_text(encoding="utf-8")


def test_the_picture_has_a_row_a_slice_and_a_column_a_model(compared, comparison):
    picture = cv2.imread(str(compared / "compare.png"))[..., ::-1]
    assert picture.shape[1] == 34 + 3 * 340 + 3 * 6
    taller = cv2.imdecode(np.frombuffer(draw_gallery(comparison, 5), np.uint8), cv2.IMREAD_COLOR)
    assert taller.shape[0] > picture.shape[0] > 3 * 200
    for column in range(3):
        cells = picture[62:-44, 34 + column * 346 : 374 + column * 346]
        for color in PALETTE[:3]:
            assert (np.abs(cells.astype(int) - color).max(axis=2) < 40).sum() > 50


def test_a_perfect_run_looks_like_the_truth(work, made_run, small_settings, tmp_path):
    perfect = write_run(tmp_path / "perfect", work, small_settings, moved=0)
    for path in perfect.glob("fold_*/oof/*.npz"):
        rows = load_prepared(work).index.query(f"scan == '{path.stem}'")
        np.savez(path, probabilities=true_masks(rows).astype(np.uint8) * 255)
    for about in perfect.glob("fold_*/model.json"):
        told = json.loads(about.read_text())
        told["settings"]["prediction"]["min_component_px"] = 0
        about.write_text(json.dumps(told))
    encoded = draw_gallery(compare([perfect, made_run]), 2)
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).astype(int)
    truth, same, other = (picture[62:300, 34 + k * 346 : 374 + k * 346] for k in range(3))
    above_numbers = slice(0, 200)
    assert (truth == same)[above_numbers].all()
    assert (truth != other)[above_numbers].any()


@given(st.integers(8, 60), st.integers(8, 60), st.integers(0, 2**32 - 1))
def test_nothing_drawn_is_cut_off(height, width, seed):
    rng = np.random.default_rng(seed)
    drawn = np.zeros((height, width), dtype=bool)
    drawn[rng.integers(0, height, 3), rng.integers(0, width, 3)] = True
    rows, columns = _window(drawn)
    assert drawn[rows, columns].sum() == drawn.sum()
    assert columns.stop - columns.start >= width // 2


def test_only_folds_that_all_have_are_compared_and_that_is_said(made_run, work, small_settings, tmp_path):
    fewer = write_run(tmp_path / "fewer", work, small_settings, folds=[0, 2])
    compare_runs([made_run, fewer], tmp_path / "out", slices=1)
    text = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    assert "fold 0, 2, which no network had seen. Fold 1 is left out" in text
    assert "2 scans of 2 cases" in text


def test_runs_of_one_name_go_by_their_paths(made_run, tmp_path):
    twin = shutil.copytree(made_run, tmp_path / made_run.name)
    twins = compare([made_run, twin])
    assert [model.label for model in twins.models] == [str(made_run), str(twin)]
    assert "by 0.0000" in describe(twins)["Ahead"]
    assert "which may be chance" in describe(twins)["Ahead"]


def test_chosen_settings_count_only_where_every_run_has_them(made_run, evaluated, rival, tmp_path):
    mixed = compare([evaluated, rival])
    assert mixed.models[0].scored.score.total == compare([made_run, rival]).models[0].scored.score.total
    assert (mixed.chosen, mixed.some_chosen) == (False, True)
    other = shutil.copytree(rival, tmp_path / "other")
    (other / "prediction.json").write_text("{}")
    both = compare([evaluated, other])
    told = json.loads((evaluated / "evaluation.json").read_text())
    total = told["chosen"]["scores"]["leaderboard"]["total"]
    assert both.chosen
    assert both.models[0].scored.score.total == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda about: about.update(data_fingerprint="0" * 64), "other data or folds"),
        (lambda about: about["settings"].update(organs=["a", "b", "c"]), "predicts a, b, c"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_by_what_differs(made_run, tmp_path, spoil, told):
    other = shutil.copytree(made_run, tmp_path / "other")
    for path in other.glob("fold_*/model.json"):
        about = json.loads(path.read_text())
        spoil(about)
        path.write_text(json.dumps(about))
    for path in other.glob("fold_*/oof/index.csv"):
        path.write_text(
            path.read_text().replace(",".join(ORGANS), "a,b,c") if "predicts" in told else path.read_text()
        )
    with pytest.raises(SettingsError, match=told):
        compare_runs([made_run, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_run_no_slice_and_no_common_fold_are_refused(made_run, work, small_settings, tmp_path):
    with pytest.raises(SettingsError, match="two or more"):
        compare_runs([made_run], tmp_path / "out")
    with pytest.raises(SettingsError, match="slices is 0"):
        compare_runs([made_run, made_run], tmp_path / "out", slices=0)
    with pytest.raises(SettingsError, match="given twice"):
        compare_runs([made_run, made_run], tmp_path / "out")
    first, last = (write_run(tmp_path / str(fold), work, small_settings, folds=[fold]) for fold in (0, 1))
    with pytest.raises(SettingsError, match="share no fold"):
        compare_runs([first, last], tmp_path / "out")


def test_the_verb_prints_the_table_and_what_it_wrote(made_run, rival, tmp_path, capsys):
    from gitract_kit.cli import main

    out = tmp_path / "out"
    assert main(["compare", str(made_run), str(rival), "-o", str(out), "--slices", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("| Model ")
    assert all(f"written: {out / name}" in printed for name in ("compare.md", "compare.png", "compare.html"))
    assert main(["compare", str(made_run), "-o", str(out)]) == 2


def test_the_course_presets_differ_in_nothing_but_their_network():
    presets = [load_preset(f"course-{name}") for name in ("unet", "unetpp", "deeplab")]
    first, *others = (settings_to_dict(one) for one in presets)
    for other in others:
        assert {key for key in first if first[key] != other[key]} == {"preset", "model"}
        assert {key for key in first["model"] if first["model"][key] != other["model"][key]} == {
            "architecture"
        }


def test_folders_of_pictures_are_reported_and_compared_too(small_settings, tmp_path):
    prepared = prepare(
        write_folder(tmp_path / "root", train=6, test=1), tmp_path / "work", layout="image-mask", n_folds=2
    )
    settings = dataclasses.replace(
        small_settings, organs=prepared.organs, layout=prepared.layout.name, prediction=PredictionSettings()
    )
    runs = [
        write_run(tmp_path / name, tmp_path / "work", settings, moved=moved)
        for name, moved in (("near", 0), ("far", 6))
    ]
    compare_runs(runs, tmp_path / "out", slices=2)
    table = columns_of(Page(tmp_path / "out" / "compare.html").tables["comparison"])
    near, far = map(float, table["Score"])
    assert near > far
    assert "6 slices of 6 scans" in (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    page = Page(write_report(runs[0], tmp_path / "report.html"))
    assert page.tables["variants"][1][1].startswith(f"{near:.4f}")


def test_who_invents_an_organ_is_not_the_best_at_it():
    assert [cell.best for cell in _measured([math.nan, 0.0])] == [False, False]
    assert [cell.best for cell in _measured([0.5, 0.25], lowest=True)] == [False, True]
