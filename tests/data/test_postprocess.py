from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from blob_scans import make_scan
from scipy import ndimage

from gitract_kit.data.postprocess import (
    CleanUp,
    apply_threshold,
    by_organ,
    drop_far_components,
    drop_small_areas,
    drop_small_components,
    fill_gaps,
    keep_most_probable,
)
from gitract_kit.errors import SettingsError
from gitract_kit.settings import PredictionSettings


def test_threshold_counts_from_its_own_value_by_organ():
    probabilities = np.array([0.29, 0.3, 0.5, 0.7], dtype=np.float32).reshape(1, 1, 2, 2).repeat(2, axis=1)
    masks = apply_threshold(probabilities, (0.3, 0.6))
    assert masks.dtype == bool
    assert masks[0, 0].tolist() == [[False, True], [True, True]]
    assert masks[0, 1].tolist() == [[False, False], [False, True]]


def test_the_likeliest_organ_keeps_a_pixel_and_the_first_of_equals():
    probabilities = np.array([[0.6, 0.2, 0.5], [0.7, 0.1, 0.5], [0.1, 0.3, 0.4]], dtype=np.float32)
    kept = keep_most_probable(probabilities.reshape(1, 3, 1, 3))
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(
        kept[0, :, 0], np.array([[0, 0, 0.5], [0.7, 0, 0], [0, 0.3, 0]], dtype=np.float32)
    )


def test_exclusive_organs_share_no_pixel_and_a_low_threshold_wins_none():
    probabilities = np.array([0.6, 0.2, 0.7, 0.4], dtype=np.float32).reshape(1, 2, 1, 2)
    settings = PredictionSettings(threshold={"a": 0.1, "b": 0.5}, min_component_px=0, exclusive=True)
    scan = make_scan((1, 2), slices=1)
    masks = CleanUp(settings, ("a", "b")).apply(probabilities, scan)
    assert masks[0, :, 0].tolist() == [[False, False], [True, False]]
    shared = CleanUp(dataclasses.replace(settings, exclusive=False), ("a", "b")).apply(probabilities, scan)
    assert shared[0, :, 0].tolist() == [[True, True], [True, False]]


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


def test_area_counts_all_components_of_a_slice():
    masks = volume_with_components()
    assert drop_small_areas(masks.copy(), (15, 16)).sum(axis=(2, 3)).tolist() == [[15, 0], [0, 0]]
    np.testing.assert_array_equal(drop_small_areas(masks.copy(), (0, 1)), masks)


def test_gap_of_one_slice_is_filled_where_both_neighbours_have_the_pixel():
    masks = np.zeros((5, 1, 6, 6), dtype=bool)
    masks[0, 0, 1:4, 1:4] = True
    masks[2, 0, 2:6, 2:6] = True
    filled = fill_gaps(masks.copy())
    assert filled[1, 0].sum() == 4
    assert filled[1, 0, 2:4, 2:4].all()
    np.testing.assert_array_equal(filled[[0, 2, 3, 4]], masks[[0, 2, 3, 4]])


def test_gap_of_two_slices_stays():
    masks = np.zeros((4, 1, 6, 6), dtype=bool)
    masks[[0, 3]] = True
    np.testing.assert_array_equal(fill_gaps(masks.copy()), masks)


@pytest.mark.parametrize("slices", [1, 2])
def test_scan_too_short_for_a_gap_is_left_alone(slices):
    masks = np.ones((slices, 1, 4, 4), dtype=bool)
    assert fill_gaps(masks).all()


def volume_with_islands() -> np.ndarray:
    """(8, 1, 40, 40): a cube of 64 voxels; 4 voxels 10 px to its right; 2 voxels 3 slices above it."""
    masks = np.zeros((8, 1, 40, 40), dtype=bool)
    masks[0:4, 0, 10:14, 10:14] = True
    masks[1, 0, 10:14, 23] = True
    masks[6, 0, 11, 11:13] = True
    return masks


def kept(min_voxels: int, max_distance_mm: float | None) -> tuple[bool, bool, bool]:
    masks = volume_with_islands()
    drop_far_components(masks, (min_voxels,), (max_distance_mm,), (3.0, 1.5, 1.5))
    return bool(masks[2, 0, 12, 12]), bool(masks[1, 0, 12, 23]), bool(masks[6, 0, 11, 11])


def test_islands_go_by_their_voxels():
    assert kept(3, None) == (True, True, False)
    assert kept(5, None) == (True, False, False)
    assert kept(65, None) == (False, False, False)


def test_islands_go_by_their_distance_in_mm():
    # 10 pixels of 1.5 mm to the right; 3 slices of 3 mm above
    assert kept(0, 15.0) == (True, True, True)
    assert kept(0, 14.9) == (True, False, True)
    assert kept(0, 9.0) == (True, False, True)
    assert kept(0, 8.9) == (True, False, False)


def test_components_of_a_scan_join_across_corners_of_slices():
    masks = np.zeros((3, 1, 5, 5), dtype=bool)
    masks[0, 0, 1, 1] = masks[1, 0, 2, 2] = masks[2, 0, 3, 3] = True
    assert drop_far_components(masks.copy(), (3,), (None,), (3.0, 1.5, 1.5)).sum() == 3


def test_organs_have_islands_of_their_own():
    masks = np.concatenate(
        [volume_with_islands(), np.zeros((8, 1, 40, 40), bool), volume_with_islands()], axis=1
    )
    drop_far_components(masks, (0, 3, 5), (None, 1.0, None), (3.0, 1.5, 1.5))
    assert masks.sum(axis=(0, 2, 3)).tolist() == [70, 0, 64]


def test_clean_up_does_nothing_it_was_not_asked_for():
    probabilities = np.random.default_rng(1).random((5, 2, 40, 48)).astype(np.float32)
    settings = PredictionSettings(threshold=0.5, min_component_px=0)
    masks = CleanUp(settings, ("a", "b")).apply(probabilities, make_scan())
    np.testing.assert_array_equal(masks, probabilities >= 0.5)


def test_clean_up_takes_each_step_by_its_setting():
    probabilities = volume_with_islands().repeat(2, axis=1).astype(np.float32)
    settings = PredictionSettings(
        min_component_px=3, min_area_px={"a": 0, "b": 20}, max_distance_mm={"a": 5.0, "b": None}
    )
    scan = make_scan((40, 40), slices=8)
    masks = CleanUp(settings, ("a", "b")).apply(probabilities, scan)
    # of a: the island above is too small on its slice, the other too far; of b: only the slice of both has 20 pixels
    assert masks.sum(axis=(2, 3)).T.tolist() == [[16, 16, 16, 16, 0, 0, 0, 0], [0, 20, 0, 0, 0, 0, 0, 0]]


def test_what_a_gate_shuts_is_cleared_before_anything_else():
    probabilities = np.ones((3, 1, 40, 48), dtype=np.float32)
    opened = np.array([[True], [False], [True]])
    settings = PredictionSettings(fill_gaps=True)
    shut = CleanUp(PredictionSettings(), ("a",)).apply(probabilities, make_scan(slices=3), opened)
    filled = CleanUp(settings, ("a",)).apply(probabilities, make_scan(slices=3), opened)
    assert shut.all(axis=(1, 2, 3)).tolist() == [True, False, True]
    assert filled.all()


def test_segmenters_are_a_gate_to_themselves_by_organ():
    probabilities = np.full((4, 2, 40, 48), 0.6, dtype=np.float32)
    probabilities[1:3, :, :2, :5] = 0.9
    settings = PredictionSettings(own_gate_threshold=0.8, own_gate_min_px={"a": 10, "b": 0})
    masks = CleanUp(settings, ("a", "b")).apply(probabilities, make_scan(slices=4))
    assert masks.all(axis=(2, 3)).T.tolist() == [[False, True, True, False], [True] * 4]
    sterner = dataclasses.replace(settings, own_gate_min_px=11)
    assert not CleanUp(sterner, ("a", "b")).apply(probabilities, make_scan(slices=4)).any()


def test_gate_of_the_segmenters_is_smoothed_along_z():
    probabilities = np.full((5, 1, 40, 48), 0.9, dtype=np.float32)
    probabilities[2] = 0.6
    settings = PredictionSettings(own_gate_threshold=0.8, own_gate_min_px=40 * 48 // 2, gate_smoothing=3)
    assert CleanUp(settings, ("a",)).apply(probabilities, make_scan(slices=5)).all()
