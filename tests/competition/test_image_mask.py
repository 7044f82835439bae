"""Folders of pictures become an index as any other: classes read off the masks, every disagreement named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from picture_folders import SIZES, write_folder, write_picture

from gitract_kit.competition.image_mask import build_picture_index, choose_classes, write_mask_pictures
from gitract_kit.competition.index import build_index, choose_layout
from gitract_kit.competition.layout import IMAGE_MASK, INDEX_COLUMNS, UW_MADISON, layout_of
from gitract_kit.competition.metric import competition_score
from gitract_kit.competition.rle import rle_decode
from gitract_kit.errors import DatasetError, SettingsError


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ((255,), ("mask",)),
        ((1,), ("mask",)),
        ((85, 170), ("class_85", "class_170")),
        ((1, 2, 300), ("class_1", "class_2", "class_300")),
    ],
)
def test_classes_are_the_values_of_the_masks(tmp_path, values, names):
    layout = choose_layout("image-mask", write_folder(tmp_path, values=values))
    assert (layout.name, layout.organs, layout.mask_values) == ("image-mask", names, values)


def test_names_are_given_by_ascending_value_or_each_with_its_own(tmp_path):
    root = write_folder(tmp_path, values=(170, 85))
    assert choose_classes(root, ["liver", "spleen"]).organs == ("liver", "spleen")
    named = choose_classes(root, ["spleen=170", "tumour=200", "liver=85"])
    assert named.organs == ("liver", "spleen", "tumour")
    assert named.mask_values == (85, 170, 200)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["liver"], "the classes are liver, and the masks of .* hold 85, 170 beside 0"),
        (["liver", "liver"], "all different"),
        (["liver=85", "spleen=85"], "all different"),
        (["liver=85", "spleen"], "'liver=85' cannot be a class's name"),
        (["liver=85", "spleen=70000"], "'spleen=70000' has no value of 1 to 65535"),
        (["liver=85", "spleen=0"], "'spleen=0' has no value of 1 to 65535"),
        (["liver", "scan"], "'scan' cannot be a class's name"),
        (["liver", "predicted"], "'predicted' cannot be a class's name"),
        (["liver", "../up"], "'../up' cannot be a class's name"),
    ],
)
def test_classes_that_do_not_fit_are_refused(tmp_path, classes, message):
    with pytest.raises(SettingsError, match=message):
        choose_classes(write_folder(tmp_path, values=(85, 170)), classes)


def test_a_value_beside_the_named_ones_is_refused(tmp_path):
    root = write_folder(tmp_path, train=5, values=(85, 170))
    with pytest.raises(
        DatasetError, match=r"train 0\.png \(the first of 5\) holds a value that is no class: 170; "
    ):
        choose_classes(root, ["liver=85", "spleen=200"])


def test_only_layouts_that_there_are_and_classes_that_are_open(tmp_path):
    with pytest.raises(SettingsError, match="no layout is called 'image-masks'; did you mean 'image-mask'"):
        choose_layout("image-masks", tmp_path)
    with pytest.raises(SettingsError, match="the classes of the layout uw-madison are large_bowel"):
        choose_layout("uw-madison", tmp_path, ["liver"])


def test_a_picture_is_a_scan_of_one_slice_and_a_case_of_its_own(tmp_path):
    root = write_folder(tmp_path, train=12, values=(85, 170), endings=(".png", ".jpg", ".tif"))
    layout = choose_classes(root)
    index = build_index(root, layout=layout)
    assert list(index.columns) == [*INDEX_COLUMNS, "class_85", "class_170"]
    assert list(index["id"]) == [f"train {number}" for number in range(12)]
    assert (index["scan"] == index["id"]).all()
    assert index["case"].nunique() == 12
    assert (index["slice"] == 1).all()
    assert not index["bad_scan"].any()
    for number, row in enumerate(index.to_dict("records")):
        assert (row["height"], row["width"]) == SIZES[number % 3]
        mask = read(root / "Train" / "Mask" / f"train {number}.png")
        for value in layout.mask_values:
            drawn = rle_decode(row[f"class_{value}"], mask.shape)
            np.testing.assert_array_equal(drawn, mask == value)


def test_a_test_index_has_no_masks_and_asks_for_none(tmp_path):
    index = build_index(write_folder(tmp_path), "test", layout=IMAGE_MASK)
    assert list(index.columns) == list(INDEX_COLUMNS)
    assert list(index["id"]) == ["test 0", "test 1"]


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_a_mask_of_0_and_255_is_the_same_in_every_format(tmp_path, ending):
    root = write_folder(tmp_path / ending, mask_ending=ending)
    expected = write_folder(tmp_path / "png")
    layout = choose_classes(root)
    assert layout.mask_values == (255,)
    found = build_index(root, layout=layout)["mask"]
    pd.testing.assert_series_equal(found, build_index(expected, layout=layout)["mask"])


def spoil_size(root: Path) -> None:
    for number in (1, 4):
        path = root / "Train" / "Mask" / f"train {number}.png"
        write_picture(path, read(path)[:-1])


def spoil_value(root: Path) -> None:
    path = root / "Train" / "Mask" / "train 3.png"
    mask = read(path)
    mask[0, 0] = 7
    write_picture(path, mask)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: [(root / "Train" / "Mask" / f"train {number}.png").unlink() for number in (2, 5)],
            r"Image.train 2\.png \(the first of 2\) has no mask of the same name in Train/Mask",
        ),
        (
            lambda root: (root / "Train" / "Image" / "train 4.png").unlink(),
            r"Mask.train 4\.png is a mask without a picture of the same name in Train/Image",
        ),
        (spoil_size, r"Mask.train 1\.png \(the first of 2\) is not as wide and high as its picture"),
        (spoil_value, r"Mask.train 3\.png holds a value that is no class: 7; expected 0 and 255 \(mask\)"),
        (
            lambda root: (root / "Train" / "Image" / "train 0.png").write_bytes(b""),
            r"Image.train 0\.png is not a whole PNG",
        ),
    ],
)
def test_what_disagrees_is_named_and_counted(tmp_path, spoil, message):
    root = write_folder(tmp_path)
    layout = choose_classes(root)
    spoil(root)
    with pytest.raises(DatasetError, match=message):
        build_index(root, layout=layout)


def test_masks_of_background_alone_are_refused(tmp_path):
    root = write_folder(tmp_path)
    for path in (root / "Train" / "Mask").iterdir():
        write_picture(path, np.zeros_like(read(path)))
    with pytest.raises(DatasetError, match="Mask hold 0 alone, which is background"):
        choose_classes(root)


def test_smoothed_masks_are_refused(tmp_path):
    root = write_folder(tmp_path)
    for path in (root / "Train" / "Mask").iterdir():
        write_picture(path, cv2.GaussianBlur(read(path), (9, 9), 3))
    with pytest.raises(
        DatasetError, match=r"expected one, or one for each of at most 32 classes; if they were resized"
    ):
        choose_classes(root)


def test_jpeg_masks_beside_class_values_are_refused(tmp_path):
    root = write_folder(tmp_path, values=(1,))
    path = root / "Train" / "Mask" / "train 2.png"
    write_picture(path.with_suffix(".jpg"), read(path) * 255)
    path.unlink()
    with pytest.raises(
        DatasetError, match=r"train 2\.jpg is a JPEG, which blurs class values, and the classes are 1 "
    ):
        choose_classes(root)


def test_an_unreadable_test_picture_is_left_out_where_faults_are_lived_with(tmp_path):
    root = write_folder(tmp_path, test=3)
    (root / "Test" / "Image" / "test 1.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"test 1\.png is not a whole PNG"):
        build_index(root, "test", layout=IMAGE_MASK)
    faults: list[DatasetError] = []
    index = build_picture_index(root, "test", IMAGE_MASK, faults)
    assert list(index["id"]) == ["test 0", "test 2"]
    assert len(faults) == 1


@pytest.mark.parametrize("values", [(255,), (1,), (85, 170), (3, 400)])
def test_written_masks_are_the_masks_that_were_read(tmp_path, values):
    root = write_folder(tmp_path / "root", values=values)
    layout = choose_classes(root)
    index = build_index(root, layout=layout)
    rles = index.set_index("id")[list(layout.organs)]
    write_mask_pictures(tmp_path / "out", index, lambda one: list(rles.loc[one]), layout)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{one}.png" for one in index["id"]
    )
    for name in index["id"]:
        expected = read(root / "Train" / "Mask" / f"{name}.png")
        found = read(tmp_path / "out" / f"{name}.png")
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["../up", "/tmp/absolute", "a/b", "..", "a\\b"])
def test_an_id_never_becomes_a_path(tmp_path, name):
    index = pd.DataFrame({"id": ["sound", name], "height": 4, "width": 5})
    with pytest.raises(DatasetError, match="is an id that cannot name a file"):
        write_mask_pictures(tmp_path / "in" / "out", index, lambda _: [""], IMAGE_MASK)
    assert list(tmp_path.iterdir()) == []


def test_run_lengths_whose_organs_may_overlap_are_no_pictures(tmp_path):
    with pytest.raises(SettingsError, match="masks of the layout uw-madison are run lengths"):
        write_mask_pictures(tmp_path / "out", pd.DataFrame(), lambda _: [], UW_MADISON)
    assert not (tmp_path / "out").exists()


def test_a_layout_of_a_newer_kit_is_named():
    with pytest.raises(SettingsError, match="no layout is called 'folders'"):
        layout_of("folders", ["mask"], [])


def test_pictures_are_scored_by_the_index_that_knows_their_scans(tmp_path):
    """Half of one picture's disc is found and the other's whole: Dice 2/3 and 1, known before."""
    names = ["no_number", "looks_like_slice_0007"]
    index = pd.DataFrame({"id": names, "scan": names, "slice": 1, "height": 4, "width": 5})
    truth = pd.DataFrame({"id": names, "class": "mask", "segmentation": ["1 4", "7 2"]})
    prediction = pd.DataFrame({"id": names, "class": "mask", "predicted": ["1 2", "7 2"]})
    score = competition_score(truth, prediction, index, organs=("mask",))
    assert score.dice == pytest.approx((2 / 3 + 1) / 2)
    assert list(score.by_scan.index) == names
    # two pixels of five in a row are farthest from what was found
    assert score.hausdorff == pytest.approx((2 / 5 / np.sqrt(3) + 0) / 2)
    with pytest.raises(DatasetError, match="the truth has the id 'no_number', expected one such as"):
        competition_score(truth, prediction, index.drop(columns="scan"), organs=("mask",))
