"""Files of pictures are decoded whole or refused, and a JPEG mask is read where that is safe."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from picture_folders import draw_picture, write_picture

from gitract_kit.competition.pictures import (
    decode_picture,
    find_folder,
    list_pictures,
    read_gray,
    read_mask,
    read_pictures,
)
from gitract_kit.errors import DatasetError


def encode(picture: np.ndarray, ending: str, *options: int) -> np.ndarray:
    return cv2.imencode(ending, picture, options)[1]


@pytest.fixture
def picture() -> np.ndarray:
    return draw_picture(np.random.default_rng(0), (40, 52))[0]


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_lossless_pictures_keep_their_values_and_depth(picture, ending, kind):
    expected = picture.astype(kind) * (kind(257) if kind is np.uint16 else kind(1))
    found = read_gray(encode(expected, ending))
    assert found.dtype == kind
    np.testing.assert_array_equal(found, expected)


def test_gray_in_three_or_four_channels_is_gray(picture):
    for channels in (3, 4):
        stacked = np.repeat(picture[..., None], channels, axis=2)
        np.testing.assert_array_equal(read_gray(encode(stacked, ".png")), picture)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_torn_file_is_no_picture(picture, ending, share):
    content = encode(picture, ending)
    assert decode_picture(content) is not None
    assert decode_picture(content[: int(len(content) * share)]) is None


def several_pages(picture: np.ndarray) -> np.ndarray:
    return cv2.imencodemulti(".tif", [picture, picture])[1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda picture: encode(picture, ".png")[:-20], "is not a whole PNG, JPEG or TIFF picture"),
        (lambda picture: np.zeros(9, dtype=np.uint8), "is not a whole PNG, JPEG or TIFF picture"),
        (lambda picture: encode(np.dstack([picture, picture, 255 - picture]), ".png"), "is in colour"),
        (lambda picture: encode(picture.astype(np.float32), ".tif"), "has not 8 or 16 bits .* from float32"),
        (several_pages, "is a TIFF of several pages"),
    ],
)
def test_the_first_unfit_file_is_named_and_the_likes_of_it_counted(picture, tmp_path, spoil, message):
    write_picture(tmp_path / "Image" / "sound.png", picture)
    for name in ("b.png", "c.png"):
        (tmp_path / "Image" / name).write_bytes(spoil(picture).tobytes())
    files = list_pictures(tmp_path, "Image")
    with pytest.raises(DatasetError, match=rf"Image.b\.png \(the first of 2\) {message}"):
        read_pictures(files, read_gray)
    faults: list[DatasetError] = []
    assert list(read_pictures(files, read_gray, faults)) == ["sound"]
    assert len(faults) == 1


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("seed", range(5))
def test_a_jpeg_mask_of_0_and_255_is_read_exactly(quality, seed):
    _, mask = draw_picture(np.random.default_rng(seed), (97, 120))
    cv2.line(mask, (5, 90), (110, 80), 255, 1)
    found = read_mask(encode(mask, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality))
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize("values", [(128,), (1,), (1, 2, 3), (85, 170, 255), (100, 255)])
def test_a_jpeg_mask_of_class_values_is_refused(tmp_path, values):
    _, mask = draw_picture(np.random.default_rng(1), (120, 120), values)
    write_picture(tmp_path / "Mask" / "a.jpg", mask)
    with pytest.raises(DatasetError, match=r"a\.jpg is a JPEG and not of 0 and 255 alone"):
        read_pictures(list_pictures(tmp_path, "Mask"), read_mask)


def test_folders_and_endings_may_be_in_capitals(picture, tmp_path):
    write_picture(tmp_path / "TRAIN" / "image" / "a.PNG", picture)
    assert find_folder(tmp_path, "Train/Image") == tmp_path / "TRAIN" / "image"
    assert list(list_pictures(tmp_path, "Train/Image")) == ["a"]
    (tmp_path / "train").mkdir()
    assert find_folder(tmp_path, "Train/Image") is None, "which of the two is meant is not for us to say"


def test_pictures_come_in_natural_order_and_dot_files_are_passed_over(picture, tmp_path):
    for name in ("scan10", "scan9", "scan09", "a 2", "é (1)"):
        write_picture(tmp_path / "Image" / f"{name}.png", picture)
    (tmp_path / "Image" / ".DS_Store").write_text("")
    assert list(list_pictures(tmp_path, "Image")) == ["a 2", "scan09", "scan9", "scan10", "é (1)"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notes.txt", "is not among the pictures that are read"),
        ("a\\b.png", "has a name that cannot be an id"),
        ("a,b.png", "has a name that cannot be an id"),
        ("=1+1.png", "has a name that cannot be an id"),
        ("a\nb.png", "has a name that cannot be an id"),
        (f"{'a' * 201}.png", "has a name that cannot be an id"),
        ("sound.JPG", "is called as another picture but for the ending"),
    ],
)
def test_a_file_that_cannot_be_a_picture_is_named(picture, tmp_path, name, message):
    write_picture(tmp_path / "Image" / "sound.png", picture)
    (tmp_path / "Image" / name).write_bytes(encode(picture, ".png").tobytes())
    with pytest.raises(DatasetError, match=message) as caught:
        list_pictures(tmp_path, "Image")
    assert str(tmp_path) in str(caught.value)


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
    (tmp_path / "Imgs").mkdir()
    with pytest.raises(
        DatasetError, match=r"Train.Image holds no picture, and .* holds Imgs: give the folder"
    ):
        list_pictures(tmp_path, "Train/Image")
