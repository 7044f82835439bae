"""The distance: scipy's, over all voxels of both masks, whatever is cut short on the way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import directed_hausdorff

from gitract_kit.competition import hausdorff
from gitract_kit.competition.hausdorff import hausdorff_distance, hausdorff_within
from gitract_kit.errors import InputError

TOLERANCE = 1e-12


def scipy_distance(
    mask_true: np.ndarray, mask_pred: np.ndarray, extent: tuple[int, ...] | None = None
) -> float:
    lengths = np.array(extent or mask_true.shape)
    true, pred = np.argwhere(mask_true) / lengths, np.argwhere(mask_pred) / lengths
    return max(directed_hausdorff(true, pred)[0], directed_hausdorff(pred, true)[0]) / math.sqrt(3)


def ball(shape: tuple[int, int, int], centre: tuple[float, ...], radius: float) -> np.ndarray:
    positions = np.indices(shape, dtype=float)
    return sum((axis - c) ** 2 for axis, c in zip(positions, centre, strict=True)) <= radius**2


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a handful of voxels takes every shortcut that is meant for thousands."""
    for name, value in {"_FEW": 0, "_MANY": 32, "_RUN": 4, "_SAMPLE": 3, "_LEAF": 2}.items():
        monkeypatch.setattr(hausdorff, name, value)


@pytest.fixture(params=["as it is", "all shortcuts"])
def _with_and_without_shortcuts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "all shortcuts":
        shorten(monkeypatch)


both = pytest.mark.usefixtures("_with_and_without_shortcuts")

SHAPE = (20, 30, 24)
BALL = ball(SHAPE, (9, 14, 11), 7)
HOLED = BALL & ~ball(SHAPE, (9, 14, 11), 3)
PAIRS = {
    "shifted": (BALL, np.roll(BALL, (1, 3, -2), axis=(0, 1, 2))),
    "one inside the other": (BALL, ball(SHAPE, (10, 14, 11), 3)),
    "hole filled": (HOLED, BALL),
    "in the hole": (HOLED, ball(SHAPE, (9, 14, 11), 2)),
    "apart": (ball(SHAPE, (4, 6, 5), 3), ball(SHAPE, (15, 23, 18), 3)),
    "touching": (BALL & (np.indices(SHAPE)[2] < 11), BALL & (np.indices(SHAPE)[2] >= 11)),
    "all voxels against one": (np.ones(SHAPE, dtype=bool), ball(SHAPE, (0, 29, 0), 0)),
    "on all borders": (~ball(SHAPE, (9, 14, 11), 9), np.ones(SHAPE, dtype=bool)),
    "one slice": (
        BALL & (np.indices(SHAPE)[0] == 9),
        np.roll(BALL, 2, axis=1) & (np.indices(SHAPE)[0] == 12),
    ),
    "a far speck": (BALL, BALL | ball(SHAPE, (0, 0, 23), 0)),
    "dilated by 2": (BALL, ndimage.binary_dilation(BALL, iterations=2)),
}


@both
@pytest.mark.parametrize("name", PAIRS)
def test_known_pairs_agree_with_scipy(name):
    mask_true, mask_pred = PAIRS[name]
    expected = scipy_distance(mask_true, mask_pred)
    assert hausdorff_distance(mask_true, mask_pred) == pytest.approx(expected, abs=TOLERANCE, rel=0)
    assert hausdorff_distance(mask_pred, mask_true) == pytest.approx(expected, abs=TOLERANCE, rel=0)


@both
@pytest.mark.parametrize("shape", [(12, 14, 13), (3, 40, 17), (30, 2, 9), (1, 25, 31), (9, 1, 1)])
@pytest.mark.parametrize("density", [0.01, 0.2, 0.6, 0.97])
def test_random_masks_agree_with_scipy(shape, density):
    generator = np.random.default_rng(7)
    mask_true, mask_pred = (generator.random(shape) < density for _ in range(2))
    mask_true.flat[0] = mask_pred.flat[-1] = True
    expected = scipy_distance(mask_true, mask_pred)
    assert hausdorff_distance(mask_true, mask_pred) == pytest.approx(expected, abs=TOLERANCE, rel=0)


MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 7)))


@given(st.data(), st.booleans())
def test_any_masks_agree_with_scipy(data, shortened):
    mask_true = data.draw(MASKS)
    mask_pred = data.draw(hnp.arrays(bool, mask_true.shape))
    with pytest.MonkeyPatch.context() as monkeypatch:
        if shortened:
            shorten(monkeypatch)
        distance = hausdorff_distance(mask_true, mask_pred)
    if mask_true.any() and mask_pred.any():
        assert distance == pytest.approx(scipy_distance(mask_true, mask_pred), abs=TOLERANCE, rel=0)
    else:
        assert math.isnan(distance) == (not mask_true.any() and not mask_pred.any())


@pytest.mark.parametrize("stretch", [(1, 1, 1), (3, 1, 2)])
def test_organs_of_thousands_of_voxels_agree_with_scipy(stretch):
    shape = (48, 60, 50)
    generator = np.random.default_rng(3)
    smooth = [ndimage.gaussian_filter(generator.normal(size=shape), 5) for _ in range(2)]
    mask_true, mask_pred = (
        field > np.quantile(field, 0.93) for field in (smooth[0], smooth[0] + 0.3 * smooth[1])
    )
    extent = tuple(length * times for length, times in zip(shape, stretch, strict=True))
    assert np.count_nonzero(mask_pred & ~mask_true) > hausdorff._FEW, "too small to be thinned out"
    expected = scipy_distance(mask_true, mask_pred, extent)
    assert hausdorff_within(mask_true, mask_pred, extent) == pytest.approx(expected, abs=TOLERANCE, rel=0)


def test_single_voxels_at_known_distance():
    mask_true, mask_pred = np.zeros((2, 10, 20, 40), dtype=bool)
    mask_true[2, 5, 30] = mask_pred[7, 15, 10] = True
    expected = math.sqrt(0.5**2 + 0.5**2 + 0.5**2) / math.sqrt(3)
    assert hausdorff_distance(mask_true, mask_pred) == pytest.approx(expected, abs=TOLERANCE)


def test_surfaces_are_not_what_is_measured():
    shape = (31, 31, 31)
    solid = ball(shape, (15, 15, 15), 12)
    hollow = solid & ~ball(shape, (15, 15, 15), 6)
    # the outer surfaces are the same; from the middle, the nearest voxel left is 6 along one axis and 1 along another
    assert hausdorff_distance(solid, hollow) == pytest.approx(
        math.sqrt(37) / 31 / math.sqrt(3), abs=TOLERANCE
    )


def test_equal_masks_have_no_distance_and_opposite_corners_the_largest_there_is():
    assert hausdorff_distance(BALL, BALL.copy()) == 0.0
    corners = np.zeros((2, 50, 50, 50), dtype=bool)
    corners[0, 0, 0, 0] = corners[1, -1, -1, -1] = True
    assert hausdorff_distance(*corners) == pytest.approx(49 / 50, abs=TOLERANCE)


def test_empty_masks():
    empty = np.zeros(SHAPE, dtype=bool)
    assert math.isnan(hausdorff_distance(empty, empty))
    assert hausdorff_distance(BALL, empty) == 1.0
    assert hausdorff_distance(empty, BALL) == 1.0


def test_a_crop_measures_as_the_whole_volume_does():
    other = np.roll(BALL, (1, 3, -2), axis=(0, 1, 2))
    cropped = hausdorff_within(BALL[1:19].copy(), other[1:19].copy(), SHAPE)
    assert cropped == pytest.approx(hausdorff_distance(BALL, other), abs=TOLERANCE)


def test_integers_and_views_are_masks_too():
    other = np.roll(BALL, 2, axis=0)
    expected = hausdorff_distance(BALL, other)
    assert hausdorff_distance(BALL.astype(np.uint8), other.astype(np.int64)) == expected
    assert hausdorff_distance(np.asfortranarray(BALL), other[::1]) == expected


@pytest.mark.parametrize(
    ("mask_true", "mask_pred", "found"),
    [
        (BALL, BALL[:, :, 1:], r"mask_true \(20, 30, 24\) and mask_pred \(20, 30, 23\), expected one shape"),
        (BALL[0], BALL[0], r"mask_true of shape \(30, 24\), expected \(z, y, x\)"),
        (BALL, BALL.astype(np.float32), "float32 values other than .* in mask_pred"),
        (BALL * np.uint8(255), BALL, "uint8 values other than .* in mask_true"),
    ],
)
def test_what_is_no_pair_of_masks_is_an_input_error(mask_true, mask_pred, found):
    with pytest.raises(InputError, match=found):
        hausdorff_distance(mask_true, mask_pred)
