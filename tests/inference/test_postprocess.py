from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gitract_kit.errors import SettingsError
from gitract_kit.inference.postprocess import apply_threshold, by_organ, drop_small_components


def test_threshold_counts_from_its_own_value_by_organ():
    probabilities = np.array([0.29, 0.3, 0.5, 0.7], dtype=np.float32).reshape(1, 1, 2, 2).repeat(2, axis=1)
    masks = apply_threshold(probabilities, (0.3, 0.6))
    assert masks.dtype == bool
    assert masks[0, 0].tolist() == [[False, True], [True, True]]
    assert masks[0, 1].tolist() == [[False, False], [False, True]]


def volume_with_components() -> np.ndarray:
    """(2, 2, 20, 20): 4 px, 5 px, and 6 px that touch at a corner only; the same in both organs of slice 0."""
    masks = np.zeros((2, 2, 20, 20), dtype=bool)
    masks[0, :, 1:3, 1:3] = True
    masks[0, :, 10, 10:15] = True
    masks[0, :, 15, 0:3] = masks[0, :, 16, 3:6] = True
    return masks


def test_components_under_the_minimum_go_and_corners_join():
    masks = drop_small_components(volume_with_components(), (5, 6))
    assert masks[0, 0].sum() == 5 + 6
    assert masks[0, 1].sum() == 6
    assert masks[0, 1, 15, 0:3].all()
    assert not masks[1].any()


@pytest.mark.parametrize("minimum", [0, 1])
def test_minimum_of_one_pixel_drops_nothing(minimum):
    masks = volume_with_components()
    np.testing.assert_array_equal(drop_small_components(masks.copy(), (minimum, minimum)), masks)


def test_components_agree_with_scipy():
    masks = np.random.default_rng(0).random((6, 1, 40, 50)) > 0.7
    expected = np.zeros_like(masks)
    for mask, wanted in zip(masks[:, 0], expected[:, 0], strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        sizes = ndimage.sum_labels(mask, labels, np.arange(count + 1))
        wanted[:] = mask & (sizes >= 9)[labels]
    assert 0 < expected.sum() < masks.sum()
    np.testing.assert_array_equal(drop_small_components(masks.copy(), (9,)), expected)


def test_components_of_neighbouring_slices_do_not_add_up():
    masks = np.zeros((4, 1, 10, 10), dtype=bool)
    masks[:, 0, 4, 4:7] = True
    assert not drop_small_components(masks, (4,)).any()


def test_setting_is_read_in_the_organs_order():
    assert by_organ({"b": 2, "a": 1}, ("a", "b"), "threshold") == (1, 2)
    assert by_organ(3, ("a", "b"), "threshold") == (3, 3)


@pytest.mark.parametrize("setting", [{"a": 1}, {"a": 1, "b": 2, "c": 3}, {}])
def test_setting_must_name_every_organ_and_no_other(setting):
    with pytest.raises(SettingsError, match=r"prediction.threshold names .* one value for each of a, b"):
        by_organ(setting, ("a", "b"), "threshold")
