import numpy as np
import pytest

from gitract_kit.data.window import window_positions
from gitract_kit.settings import WindowSettings


def test_a_window_is_centred_on_its_slice():
    positions = window_positions(np.arange(1, 145), WindowSettings(slices=5, stride=2))

    assert positions.shape == (144, 5)
    assert positions[70].tolist() == [66, 68, 70, 72, 74]
    np.testing.assert_array_equal(positions[:, 2], np.arange(144))


def test_windows_are_clamped_at_the_ends_of_the_scan():
    positions = window_positions(np.arange(1, 7), WindowSettings(slices=5, stride=1))

    assert positions[0].tolist() == [0, 0, 0, 1, 2]
    assert positions[5].tolist() == [3, 4, 5, 5, 5]


def test_a_single_slice_is_its_own_neighbourhood():
    assert window_positions(np.array([53]), WindowSettings(slices=3, stride=2)).tolist() == [[0, 0, 0]]


def test_a_missing_neighbour_is_replaced_by_the_nearest_slice_there_is():
    positions = window_positions(np.array([10, 11, 13, 40]), WindowSettings(slices=3, stride=1))

    # 12 is missing: 11 and 13 are equally near, and the one closer to the centre is itself
    assert positions.tolist() == [[0, 0, 1], [0, 1, 1], [2, 2, 2], [3, 3, 3]]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("slices", [1, 3, 5, 7])
def test_a_gapless_scan_agrees_with_plain_clamping(slices, stride):
    depth = 20
    offsets = stride * np.arange(-(slices // 2), slices // 2 + 1)
    expected = np.clip(np.arange(depth)[:, None] + offsets, 0, depth - 1)

    positions = window_positions(np.arange(101, 101 + depth), WindowSettings(slices, stride))

    np.testing.assert_array_equal(positions, expected)
