from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from blob_scans import REAL_SIZES, SeeThrough, draw_blob, make_scan, see_through, see_through_settings

from gitract_kit.errors import SettingsError
from gitract_kit.inference.member import NetworkMember
from gitract_kit.models import create_model
from gitract_kit.settings import GeometrySettings, ModelSettings, PredictionSettings, Settings

TINY = ModelSettings(
    architecture="unet", encoder="tu-resnet10t", encoder_depth=3, decoder_channels=(16, 8, 8)
)


def centre_of(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


@pytest.mark.parametrize(("shape", "spacing_mm"), REAL_SIZES)
@pytest.mark.parametrize(
    "geometry",
    [
        GeometrySettings(height=288, width=384, spacing_mm=1.5),
        GeometrySettings(height=256, width=256),
        GeometrySettings(height=160, width=160),
    ],
    ids=["padded", "square", "small"],
)
def test_what_the_network_sees_comes_back_at_its_place_and_size(shape, spacing_mm, geometry):
    scan = make_scan(shape, slices=3, spacing_mm=spacing_mm)
    probabilities = see_through(geometry=geometry).predict(scan)
    assert probabilities.shape == (3, 3, *shape)
    assert probabilities.dtype == np.float32
    mask, truth = probabilities[1, 2] >= 0.5, draw_blob(shape)
    assert np.abs(centre_of(mask) - centre_of(truth)).max() < 0.25
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.97
    assert not (probabilities[[0, 2]] >= 0.5).any()


@pytest.mark.parametrize("tta", ["hflip", "flips"])
def test_flips_leave_a_network_that_follows_its_input_alone(tta):
    scan = make_scan()
    np.testing.assert_allclose(see_through(tta).predict(scan), see_through().predict(scan), atol=2e-3)


def test_batch_size_changes_nothing():
    scan = make_scan(slices=7)
    one = see_through(batch_size=1).predict(scan)
    for batch_size in (3, 7, 100):
        np.testing.assert_array_equal(see_through(batch_size=batch_size).predict(scan), one)


class WeightedNeighbours(torch.nn.Module):
    """Probabilities that tell the window's slices apart: .1 of the one before, .3 of the middle, .6 of the next."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        shares = torch.tensor([0.1, 0.3, 0.6]).reshape(1, 3, 1, 1)
        return (windows * shares).sum(1, keepdim=True).logit(eps=1e-6)


def test_window_is_centred_and_stays_in_the_scan():
    scan = make_scan((64, 64), slices=4)
    volume = np.empty_like(scan.volume)
    volume[:] = np.array([0, 10, 20, 100]).reshape(4, 1, 1)
    member = NetworkMember(WeightedNeighbours(), see_through_settings(organs=("organ",)), tta="none")
    answer = member.predict(dataclasses.replace(scan, volume=volume))
    expected = np.array([0.06, 0.15, 0.67, 0.92])
    np.testing.assert_allclose(answer[:, 0, 30, 30], expected, atol=1e-3)


def test_real_network_answers_every_organ_and_twice_the_same():
    torch.manual_seed(0)
    settings = Settings(model=TINY, geometry=GeometrySettings(height=64, width=64), organs=("one", "two"))
    network = create_model(TINY, in_channels=settings.window.slices, classes=2)
    member = NetworkMember(network, settings)
    scan = make_scan((50, 70))
    first = member.predict(scan)
    assert first.shape == (5, 2, 50, 70)
    assert np.isfinite(first).all()
    assert first.min() >= 0
    assert first.max() <= 1
    np.testing.assert_array_equal(member.predict(scan), first)


def test_unwanted_slices_cost_nothing_and_still_feed_their_neighbours():
    network = TooSmallMemory(limit=100)
    member = NetworkMember(network, see_through_settings(), tta="none", batch_size=2)
    scan = make_scan(slices=6)
    wanted = np.array([False, True, True, False, True, False])
    answer = member.predict(scan, wanted)
    assert network.sizes == [2, 1]
    np.testing.assert_array_equal(answer[wanted], see_through().predict(scan)[wanted])
    assert not answer[~wanted].any()


def test_no_wanted_slice_is_no_forward_pass():
    network = TooSmallMemory(limit=100)
    member = NetworkMember(network, see_through_settings(), tta="none")
    assert not member.predict(make_scan(), np.zeros(5, dtype=bool)).any()
    assert network.sizes == []


class TooSmallMemory(SeeThrough):
    """Runs out of memory on more than ``limit`` windows."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.sizes: list[int] = []

    def forward(self, windows):
        self.sizes.append(len(windows))
        if len(windows) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(windows)


def test_out_of_memory_halves_the_batch_for_good():
    network = TooSmallMemory(limit=2)
    member = NetworkMember(network, see_through_settings(), tta="none", batch_size=8)
    scan = make_scan(slices=6)
    np.testing.assert_array_equal(member.predict(scan), see_through().predict(scan))
    assert network.sizes == [6, 3, 2, 2, 2]
    assert member.batch_size == 2


def test_one_slice_that_does_not_fit_is_an_error():
    member = NetworkMember(TooSmallMemory(limit=0), see_through_settings(), tta="none")
    with pytest.raises(torch.OutOfMemoryError):
        member.predict(make_scan())


def test_precision_is_the_settings_own():
    torch.manual_seed(0)
    network = create_model(TINY, in_channels=Settings().window.slices, classes=2)
    scan = make_scan((50, 70))

    def answer(precision: str) -> np.ndarray:
        prediction = PredictionSettings(precision=precision)
        settings = Settings(
            model=TINY,
            geometry=GeometrySettings(height=64, width=64),
            organs=("one", "two"),
            prediction=prediction,
        )
        return NetworkMember(network, settings).predict(scan)

    exact, rounded = answer("fp32"), answer("bf16")
    np.testing.assert_array_equal(answer("auto"), exact)
    assert 0 < np.abs(rounded - exact).max() < 0.02


def test_member_without_tta_shares_the_network():
    member = see_through("hflip")
    plain = member.without_tta()
    assert (member.passes, plain.passes) == (2, 1)
    assert plain.network is member.network
    assert (plain.name, plain.weight, plain.batch_size) == (member.name, member.weight, member.batch_size)


def test_unknown_augmentation_is_refused_before_any_scan():
    with pytest.raises(SettingsError, match="did you mean 'hflip'"):
        see_through("hfilp")


def test_batch_of_nothing_is_refused():
    with pytest.raises(SettingsError, match=r"batch_size is 0; it must be 1 or more"):
        see_through(batch_size=0)
