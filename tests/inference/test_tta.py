from __future__ import annotations

import pytest
import torch

from gitract_kit.errors import SettingsError
from gitract_kit.inference.tta import average_views, count_views, tta_names
from gitract_kit.settings import TTA_NAMES


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["none", "hflip", "flips"])
def test_flips_change_nothing_where_the_output_follows_the_input(name, images):
    averaged = average_views(lambda x: x.square(), images, name)
    torch.testing.assert_close(averaged, images.square())


def test_scales_keep_places_where_the_output_follows_the_input():
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    smooth = torch.exp(-((rows - 20) ** 2 + (columns - 60) ** 2) / 300)[None, None]
    averaged = average_views(lambda x: x * 1, smooth, "scales")
    assert averaged.shape == smooth.shape
    assert (averaged - smooth).abs().max() < 0.01


def test_hflip_averages_both_sides_of_an_output_that_does_not_follow():
    # a network that answers by position: 1 in the left half, whatever it sees
    left = torch.zeros(1, 1, 64, 64)
    left[..., :32] = 1
    averaged = average_views(lambda x: left.clone(), torch.zeros(1, 1, 64, 64), "hflip")
    torch.testing.assert_close(averaged, torch.full_like(left, 0.5))


def test_flips_see_all_four_views_once(images):
    seen = []
    average_views(lambda x: seen.append(x) or x * 1, images, "flips")
    wanted = [images, images.flip(-1), images.flip(-2), images.flip(-1, -2)]
    assert len(seen) == count_views("flips") == 4
    for view, expected in zip(seen, wanted, strict=True):
        torch.testing.assert_close(view, expected)


def test_scales_give_the_network_sides_it_can_take(images):
    sides = []
    average_views(lambda x: sides.append(tuple(x.shape[-2:])) or x, images, "scales")
    assert len(set(sides)) == 3
    assert all(side % 32 == 0 for size in sides for side in size)


@pytest.mark.parametrize("name", tta_names())
def test_input_is_left_as_it_was(name, images):
    before = images.clone()
    average_views(lambda x: x * 2, images, name)
    assert torch.equal(images, before)


def test_unknown_name_says_the_nearest():
    with pytest.raises(
        SettingsError, match=r"no test-time augmentation is called 'hflips'; did you mean 'hflip'"
    ):
        count_views("hflips")


def test_unlike_name_lists_the_known_ones():
    with pytest.raises(SettingsError, match="known are none, hflip, flips, scales"):
        count_views("everything")


def test_the_settings_know_the_same_names():
    assert list(TTA_NAMES) == tta_names()
