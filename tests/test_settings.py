import pytest

from gitract_kit.errors import SettingsError
from gitract_kit.settings import (
    Settings,
    load_preset,
    override_settings,
    preset_names,
    settings_from_dict,
    settings_to_dict,
)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_reads_and_round_trips(name):
    settings = load_preset(name)

    assert settings.preset == name
    assert settings_from_dict(settings_to_dict(settings)) == settings


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(SettingsError, match="no preset is called 'tinny'; did you mean 'tiny'"):
        load_preset("tinny")


def test_assignments_change_what_they_name():
    changed = override_settings(
        Settings(),
        [
            "training.epochs=3",
            "training.learning_rate=1e-4",
            "training.loss={bce: 1, dice: 3}",
            "model.encoder_weights=null",
            "prediction.threshold={stomach: 0.4}",
        ],
    )

    assert changed.training.epochs == 3
    assert changed.training.learning_rate == pytest.approx(1e-4)
    assert changed.training.loss == {"bce": 1.0, "dice": 3.0}
    assert changed.model.encoder_weights is None
    assert changed.prediction.threshold == {"stomach": 0.4}
    assert Settings().training.epochs != 3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epoch=3", "no setting is called training.epoch; did you mean 'epochs'"),
        ("trainin.epochs=3", "did you mean 'training'"),
        ("training.epochs=many", "training.epochs: expected int, found 'many'"),
        ("training.epochs=0", "training.epochs is 0; it must be 1 or more"),
        ("training.samples_per_epoch=-1", "training.samples_per_epoch is -1; it must be 1 or more, or null"),
        ("training.seed=-1", "training.seed is -1; it must be 0 or more"),
        ("training.loss={bce: 1, dice: -1}", "training.loss.dice is -1.0; it must be over 0"),
        (
            "prediction.tta=nonsense",
            "prediction.tta is 'nonsense'; it must be one of none, hflip, flips, scales",
        ),
        ("training.epochs", "write it as key=value"),
        ("training.loss={bce: heavy}", r"training.loss.bce: expected float, found 'heavy'"),
        ("window.slices=4", "window.slices is 4; it must be an odd number"),
        ("geometry.height=100", "a positive multiple of 32"),
        ("intensity.low_percentile=99.9", "below intensity.high_percentile"),
        ("training.precision=fp8", "one of auto, fp32, fp16, bf16"),
        ("prediction.precision=fp8", "one of auto, fp32, fp16, bf16"),
        ("training={epochs: [}", "is not a YAML value"),
        ("window=5", "expected a mapping of settings, found 5"),
        ("mask_values=[1, 2]", r"mask_values is \(1, 2\); it must be one value for each of large_bowel"),
        ("mask_values=[1, 2, 2]", r"mask_values is \(1, 2, 2\)"),
        ("mask_values=[0, 1, 2]", "it must be 1 to 65535"),
    ],
)
def test_a_bad_assignment_says_what_is_wrong(assignment, message):
    with pytest.raises(SettingsError, match=message):
        override_settings(Settings(), [assignment])


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        Settings().preset = "other"
