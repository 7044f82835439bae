import numpy as np
import pytest

from gitract_kit.data.geometry import Geometry, create_geometry
from gitract_kit.settings import GeometrySettings

REAL_SIZES = [((266, 266), 1.5), ((310, 360), 1.5), ((276, 276), 1.63), ((234, 234), 1.5)]


def smooth_bump(shape, centre, width=12.0):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2)).astype(np.float32)


def centre_of_mass(image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(image * y).sum(), (image * x).sum()]) / image.sum()


@pytest.mark.parametrize(("shape", "spacing"), REAL_SIZES)
@pytest.mark.parametrize("spacing_mm", [None, 1.5, 3.0])
@pytest.mark.parametrize("side", [160, 384])
def test_there_and_back_keeps_shape_and_place(shape, spacing, spacing_mm, side):
    geometry = create_geometry(shape, (spacing, spacing), GeometrySettings(side, side, spacing_mm))
    bump = smooth_bump(shape, (shape[0] * 0.4, shape[1] * 0.65))

    restored = geometry.inverse(geometry.forward(bump))

    assert restored.shape == shape
    assert np.abs(centre_of_mass(restored) - centre_of_mass(bump)).max() < 0.05
    assert np.abs(restored - bump).max() < 0.03


@pytest.mark.parametrize("shape", [(310, 360), (200, 512), (1024, 1024), (40, 30)])
def test_nothing_is_cut_off(shape):
    geometry = create_geometry(shape, (1.5, 1.5), GeometrySettings(160, 160, 1.5))

    placed = geometry.forward(np.ones(shape, dtype=np.float32))

    assert placed.shape == (160, 160)
    assert geometry.inverse(placed).min() == pytest.approx(1.0)


def test_the_native_grid_is_padded_and_comes_back_bit_for_bit():
    geometry = create_geometry((266, 266), (1.5, 1.5), GeometrySettings(384, 384, 1.5))
    image = np.random.default_rng(0).random((266, 266), dtype=np.float32)

    assert geometry.scaled == geometry.source
    np.testing.assert_array_equal(geometry.inverse(geometry.forward(image)), image)


def test_a_wide_slice_is_centred_with_its_aspect_ratio():
    geometry = create_geometry((310, 360), (1.5, 1.5), GeometrySettings(160, 160))

    assert geometry.scaled == (138, 160)
    assert geometry.offset == (11, 0)


def test_spacing_sets_the_scale_where_the_slice_fits():
    geometry = create_geometry((266, 266), (1.5, 1.5), GeometrySettings(160, 160, 3.0))

    assert geometry.scaled == (133, 133)


def test_unequal_spacing_becomes_equal():
    geometry = create_geometry((100, 100), (3.0, 1.5), GeometrySettings(128, 128))

    assert geometry.scaled == (128, 64)


def test_inverse_takes_leading_axes_and_keeps_the_dtype():
    geometry = Geometry(source=(20, 30), scaled=(10, 15), target=(32, 32))
    probabilities = np.random.default_rng(1).random((4, 3, 32, 32)).astype(np.float16)

    restored = geometry.inverse(probabilities)

    assert restored.shape == (4, 3, 20, 30)
    assert restored.dtype == np.float16
    np.testing.assert_array_equal(restored[2, 1], geometry.inverse(probabilities[2, 1]))


def test_a_mask_becomes_the_covered_share():
    geometry = Geometry(source=(4, 4), scaled=(2, 2), target=(2, 2))
    mask = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)

    np.testing.assert_allclose(geometry.forward_mask(mask), [[1.0, 0.0], [0.25, 0.0]])
