import numpy as np
import pytest

from gitract_kit.data.augment import create_augmentation
from gitract_kit.errors import SettingsError
from gitract_kit.settings import AugmentationSettings, Settings, override_settings, settings_from_dict

NOTHING = {"hflip": 0.0, "affine": 0.0, "elastic": 0.0, "intensity": 0.0, "dropout": 0.0}
NAMES = ("none", "flip", "light", "medium", "strong")


def named(name):
    return settings_from_dict({"augmentation": name}).augmentation


def blob():
    """A bright square on every channel, whose mask is the square."""
    mask = np.zeros((64, 64, 1), dtype=np.float32)
    mask[20:40, 10:30] = 1
    return np.repeat(mask, 5, axis=2), mask


def agreement(settings, seeds=range(30)):
    """Share of pixels that are both bright and masked, of those that are either, for each seed; and how many moved."""
    image, mask = blob()
    augmentation, shares, moved = create_augmentation(settings), [], 0
    for seed in seeds:
        augmentation.set_random_seed(seed)
        changed = augmentation(image=image, mask=mask)
        bright, masked = changed["image"][..., 2] > 0.5, changed["mask"][..., 0] > 0.5
        shares.append((bright & masked).sum() / max(1, (bright | masked).sum()))
        moved += not np.array_equal(changed["mask"], mask)
    return np.array(shares), moved


@pytest.mark.parametrize("name", ["elastic", "grid", "optical"])
def test_each_distortion_moves_image_and_mask_alike(name):
    settings = AugmentationSettings(
        **{**NOTHING, "elastic": 1.0}, distortions=(name,), distortion_strength=2.0
    )

    shares, moved = agreement(settings)

    assert moved >= 28
    assert shares.min() > 0.9


@pytest.mark.parametrize("name", ["flip", "light"])
def test_presets_that_only_move_keep_image_and_mask_together(name):
    shares, moved = agreement(
        override_settings(Settings(), [f"augmentation={name}", "augmentation.intensity=0"]).augmentation
    )

    assert moved >= 8
    assert shares.min() > 0.9


def test_stronger_distortions_reach_farther():
    image, mask = blob()

    def changed(strength):
        settings = AugmentationSettings(**{**NOTHING, "elastic": 1.0}, distortion_strength=strength)
        augmentation = create_augmentation(settings)
        total = 0.0
        for seed in range(20):
            augmentation.set_random_seed(seed)
            total += np.abs(augmentation(image=image, mask=mask)["mask"] - mask).sum()
        return total

    assert changed(3.0) > 1.5 * changed(1.0)


def test_none_changes_nothing():
    image, mask = blob()
    changed = create_augmentation(named("none"), seed=1)(image=image, mask=mask)

    np.testing.assert_array_equal(changed["image"], image)
    np.testing.assert_array_equal(changed["mask"], mask)


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_keeps_shapes_types_and_range_and_treats_all_channels_alike(name):
    image, mask = blob()
    augmentation = create_augmentation(named(name))
    for seed in range(20):
        augmentation.set_random_seed(seed)
        changed = augmentation(image=image, mask=mask)

        assert (changed["image"].shape, changed["mask"].shape) == (image.shape, mask.shape)
        assert (changed["image"].dtype, changed["mask"].dtype) == (np.float32, np.float32)
        assert 0 <= changed["image"].min() <= changed["image"].max() <= 1
        assert np.ptp(changed["image"], axis=2).max() < 1e-6


def test_the_medium_preset_is_the_default():
    assert named("medium") == Settings().augmentation


def test_a_named_preset_can_be_changed_further():
    settings = override_settings(Settings(), ["augmentation=strong", "augmentation.hflip=0"])

    assert settings.augmentation.hflip == 0
    assert settings.augmentation.distortions == ("elastic", "grid", "optical")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("augmentation=stong", "no augmentation is called 'stong'; did you mean 'strong'"),
        ("augmentation.distortions=[wave]", "one or more of elastic, grid, optical"),
        ("augmentation.distortions=[]", "set augmentation.elastic to 0 for no distortion"),
        ("augmentation.hflip=1.5", "augmentation.hflip is 1.5; it must be 0 to 1"),
        ("augmentation.distortion_strength=9", "over 0 and at most 4"),
    ],
)
def test_an_impossible_augmentation_says_what_is_wrong(assignment, message):
    with pytest.raises(SettingsError, match=message):
        override_settings(Settings(), [assignment])
