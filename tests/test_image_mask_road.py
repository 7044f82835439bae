"""Folders of pictures, from raw files to masks and a table: every verb on what the one before left."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from blob_scans import FixedMember
from picture_folders import draw_picture, write_folder, write_picture

import gitract_kit
from gitract_kit.cli import main
from gitract_kit.competition.layout import IMAGE_MASK
from gitract_kit.competition.rle import rle_decode
from gitract_kit.data.dataset import SliceDataset
from gitract_kit.data.prepare import adapt_settings, load_prepared, prepare
from gitract_kit.errors import DatasetError, PredictionError
from gitract_kit.settings import PredictionSettings, Settings, load_preset, override_settings, preset_names
from gitract_kit.shipping.submit import predict_bundles


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def check_outputs(root: Path, table: Path, masks: Path, values: dict[str, int]) -> None:
    """Both outputs say the same of every test picture, at its own size, in the values of the training masks."""
    pictures = {path.stem: read(path) for path in (root / "Test" / "Image").iterdir()}
    rows = pd.read_csv(table, dtype=str, keep_default_na=False).set_index(["id", "class"])["predicted"]
    assert set(rows.index) == {(name, organ) for name in pictures for organ in values}
    assert {path.name for path in masks.iterdir()} == {f"{name}.png" for name in pictures}
    for name, picture in pictures.items():
        written = read(masks / f"{name}.png")
        assert written.shape == picture.shape
        assert set(np.unique(written)) <= {0, *values.values()}
        for organ, value in values.items():
            np.testing.assert_array_equal(written == value, rle_decode(rows[name, organ], picture.shape))


def test_the_road_from_forty_pictures_to_masks_and_a_table(tmp_path, capsys):
    root = write_folder(tmp_path / "root", train=32, test=8, endings=(".png", ".JPG", ".tif"))
    work, run, weights, table, masks = (
        tmp_path / name for name in ("work", "run", "weights", "table.csv", "masks")
    )
    small = [
        "--set=window.slices=3",
        "--set=geometry={height: 64, width: 64}",
        "--set=model.encoder_depth=3",
        "--set=model.decoder_channels=[16, 8, 8]",
        "--set=training={epochs: 1, batch_size: 8, workers: 0}",
    ]

    assert main(["prepare", str(root), "-o", str(work), "--layout", "image-mask", "--folds", "4"]) == 0
    assert main(["train", str(work), "-o", str(run), "--preset", "tiny", "--fold", "0", *small]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert main(["bundle", str(run), "-o", str(weights)]) == 0
    predict = ["predict", str(root), "--bundle", str(weights), "-o", str(table), "--masks", str(masks)]
    assert main(predict) == 0

    printed = capsys.readouterr().out
    assert "mask of image-mask, 255 in masks" in printed
    assert "32 slices, 32 scans, 32 cases" in printed
    assert "leaderboard with the chosen settings" in printed
    check_outputs(root, table, masks, {"mask": 255})


def test_classes_of_their_own_values_and_a_window_of_five(tmp_path, small_settings: Settings):
    root = write_folder(tmp_path / "root", train=8, test=3, values=(85, 170))
    prepare(root, tmp_path / "work", layout="image-mask", classes=["liver", "spleen"], n_folds=2)
    settings = override_settings(
        small_settings, ["window.slices=5", "training.epochs=1", "prediction.min_component_px=0"]
    )
    for fold in (0, 1):
        gitract_kit.train_fold(tmp_path / "work", tmp_path / "run", settings, fold, progress=False)
    bundle = gitract_kit.create_bundle(tmp_path / "run", tmp_path / "bundle")

    table, masks = tmp_path / "table.csv", tmp_path / "masks"
    predict_bundles([bundle], root, table, masks=masks, device="cpu", progress=False)

    check_outputs(root, table, masks, {"liver": 85, "spleen": 170})
    assert gitract_kit.load_bundle(bundle).layout == "image-mask"


@pytest.fixture(scope="module")
def prepared_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of three sizes with two classes, prepared."""
    folder = tmp_path_factory.mktemp("pictures")
    root = write_folder(folder / "root", values=(1, 2), endings=(".png", ".jpg", ".tif"))
    prepare(root, folder / "work", layout="image-mask", n_folds=2)
    return folder / "work"


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_sees_the_picture_in_every_place_of_its_window(prepared_work, preset):
    prepared = load_prepared(prepared_work)
    settings = adapt_settings(load_preset(preset), prepared.layout)
    plain, changed = (
        SliceDataset(prepared.index, prepared.scan_folder, settings, augment=augment)
        for augment in (False, True)
    )
    image, mask = plain[1, 0]
    assert image.shape == (settings.window.slices, settings.geometry.height, settings.geometry.width)
    assert mask.shape == (2, *image.shape[1:])
    assert (image == image[0]).all()
    assert mask.any(axis=(1, 2)).all()
    # 80 x 60 pixels fill the input's height, whatever spacing the recipe would have
    filled = np.flatnonzero(image[0].any(axis=1))
    assert filled[-1] - filled[0] >= settings.geometry.height - 2
    assert changed[1, 0][0].shape == image.shape


def test_preparing_again_finds_the_same_data_and_classes(prepared_work):
    first = load_prepared(prepared_work)
    again = prepare(prepared_work.parent / "root", prepared_work, layout="image-mask", n_folds=3)
    assert (again.layout, again.fingerprint, again.folds) == (first.layout, first.fingerprint, [0, 1])


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (lambda root: (root / "Train" / "Mask" / "train 1.png").unlink(), [], "has no mask of the same name"),
        (lambda root: None, ["--classes", "liver", "spleen"], "expected one name for each value"),
        (lambda root: None, ["--classes", "liver=1"], "holds a value that is no class: 255"),
        (lambda root: (root / "Train").rename(root / "Trains"), [], "Train/Mask holds no picture"),
        (lambda root: None, ["--layout", "image-maks"], "did you mean 'image-mask'"),
        (lambda root: None, ["--layout", "uw-madison"], "has no train; it holds Test, Train"),
    ],
)
def test_refused_folders_end_with_2_and_leave_no_prepared_folder(tmp_path, capsys, spoil, arguments, message):
    root = write_folder(tmp_path / "root")
    spoil(root)
    prepare_it = ["prepare", str(root), "-o", str(tmp_path / "work"), "--layout", "image-mask", *arguments]
    assert main(prepare_it) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not (tmp_path / "work" / "prepared.json").exists()


def test_names_that_look_like_numbers_or_nothing_stay_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    names = ["007", "7", "1e5", "NA", "True"]
    for name in names:
        for folder, picture in zip(("Image", "Mask"), draw_picture(rng, (40, 40)), strict=True):
            write_picture(tmp_path / "Train" / folder / f"{name}.png", picture)
    prepared = prepare(tmp_path, tmp_path / "work", layout="image-mask", n_folds=2)
    assert sorted(prepared.index["scan"]) == sorted(names)
    assert {path.stem for path in prepared.scan_folder.iterdir()} == set(names)


def test_pictures_without_a_test_folder_are_not_stood_in_for(tmp_path):
    root = write_folder(tmp_path / "root", test=0)
    member = FixedMember((0.9,), organs=("mask",))
    predictor = gitract_kit.Predictor([member], PredictionSettings(), layout=IMAGE_MASK)
    with pytest.raises(
        DatasetError, match=r"Test/Image holds no picture, and .* holds Train: give the folder"
    ):
        predictor.predict(root, tmp_path / "table.csv", progress=False)
    assert (tmp_path / "table.csv").read_text() == "id,class,predicted\n"


def test_masks_that_find_no_room_leave_the_table_and_say_so(tmp_path):
    root = write_folder(tmp_path / "root")
    (tmp_path / "masks").write_text("a file where the folder was to be")
    predictor = gitract_kit.Predictor(
        [FixedMember((0.9,), organs=("mask",))], PredictionSettings(), layout=IMAGE_MASK
    )
    with pytest.raises(
        PredictionError, match=r"masks: not all masks could be written .* the submission is whole"
    ):
        predictor.predict(root, tmp_path / "table.csv", masks=tmp_path / "masks", progress=False)
    assert len(pd.read_csv(tmp_path / "table.csv")) == 2


def test_masks_of_organs_that_overlap_are_refused_before_anything_is_predicted(
    phantom, bundle, tmp_path, capsys
):
    predict = ["predict", str(phantom.root), "--bundle", str(bundle), "-o", str(tmp_path / "s.csv")]
    assert main([*predict, "--masks", str(tmp_path / "masks")]) == 2
    assert "masks of the layout uw-madison are run lengths" in capsys.readouterr().err
    assert not (tmp_path / "masks").exists()
