"""What a run does, as frozen dataclasses: read strictly, saved beside the weights.

One dataclass a concern; :class:`Settings` holds them all. A preset is a YAML file of ``presets/``
that names only what it changes. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from gitract_kit.errors import SettingsError
from gitract_kit.strict import nearest, read_dataclass, require, to_plain
from gitract_kit.training_settings import AugmentationSettings, TrainingSettings

__all__ = [
    "TTA_NAMES",
    "AugmentationSettings",
    "GeometrySettings",
    "IntensitySettings",
    "ModelSettings",
    "PredictionSettings",
    "Settings",
    "TrainingSettings",
    "WindowSettings",
    "load_preset",
    "override_settings",
    "preset_names",
    "settings_from_dict",
    "settings_to_dict",
]


TTA_NAMES = ("none", "hflip", "flips", "scales")
"""Test-time augmentations; what each one looks at is :mod:`gitract_kit.inference.tta`'s."""


@dataclass(frozen=True)
class WindowSettings:
    """Which neighbouring slices become the channels of one input."""

    slices: int = 3
    """Number of slices in the window, odd, the wanted one in the middle."""
    stride: int = 1
    """Distance in slices between two neighbours of the window."""

    def __post_init__(self) -> None:
        require(
            self.slices >= 1 and self.slices % 2 == 1,
            "window.slices",
            self.slices,
            "an odd number, 1 or more",
        )
        require(self.stride >= 1, "window.stride", self.stride, "1 or more")


@dataclass(frozen=True)
class GeometrySettings:
    """The network's input, and how a slice is brought to it."""

    height: int = 256
    """Rows of the network's input, a multiple of 32."""
    width: int = 256
    """Columns of the network's input, a multiple of 32."""
    spacing_mm: float | None = None
    """Pixel spacing the slice is resampled to before it is padded; None fills the input instead. A slice that
    would not fit is shrunk until it does: nothing is ever cut off."""

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            require(value >= 32 and value % 32 == 0, f"geometry.{name}", value, "a positive multiple of 32")
        require(
            self.spacing_mm is None or self.spacing_mm > 0, "geometry.spacing_mm", self.spacing_mm, "over 0"
        )


@dataclass(frozen=True)
class IntensitySettings:
    """How 16-bit values become floats: percentiles of the whole scan, so that its slices stay comparable."""

    low_percentile: float = 1.0
    """The scan's percentile that becomes 0."""
    high_percentile: float = 99.5
    """The scan's percentile that becomes 1; brighter values are clipped."""

    def __post_init__(self) -> None:
        require(
            0 <= self.low_percentile < self.high_percentile <= 100,
            "intensity.low_percentile",
            self.low_percentile,
            "at least 0 and below intensity.high_percentile, which is at most 100",
        )


@dataclass(frozen=True)
class ModelSettings:
    """The network."""

    architecture: str = "unet"
    """An architecture of segmentation-models-pytorch, in its lower-case spelling, or one of the kit's own:
    ``unet_2015`` and ``resunetplusplus``, whose encoder is part of the paper: ``encoder`` and ``encoder_depth``
    do not concern them."""
    encoder: str = "tu-resnet18"
    """An smp encoder, or any timm one as ``tu-NAME``."""
    encoder_weights: str | None = None
    """Weights the encoder starts from: a name smp knows (``imagenet``; needs a network), the path of a
    safetensors file, or None. Only training reads it."""
    encoder_depth: int = 5
    """Number of halvings in the encoder."""
    decoder_channels: tuple[int, ...] | None = None
    """Channels of the decoder's stages, deepest first, for architectures that take them."""
    initial_weights: str | None = None
    """The ``model.safetensors`` of another run to start from, or None. Tensors that it lacks or that have another
    shape keep their random start and are named. Only training reads it."""

    def __post_init__(self) -> None:
        require(3 <= self.encoder_depth <= 5, "model.encoder_depth", self.encoder_depth, "3, 4 or 5")


@dataclass(frozen=True)
class PredictionSettings:
    """What turns probabilities into masks; a bundle carries it."""

    tta: str = "hflip"
    """Test-time augmentation by name: ``none``, ``hflip``, ``flips`` or ``scales``."""
    batch_size: int = 16
    """Slices a forward pass."""
    precision: str = "auto"
    """``fp32``, ``fp16``, ``bf16``; ``auto`` takes bf16 or fp16 on a GPU and fp32 elsewhere. A CPU with AMX is twice
    as fast in bf16, any other much slower."""
    threshold: float | Mapping[str, float] = 0.5
    """Probability from which a pixel counts, for all organs or by organ."""
    min_component_px: int | Mapping[str, int] = 25
    """Connected components of a slice with fewer pixels are dropped, for all organs or by organ."""
    min_area_px: int | Mapping[str, int] = 0
    """An organ with fewer pixels on a slice than this, all components together, is dropped from it."""
    min_component_voxels: int | Mapping[str, int] = 0
    """Connected components of a whole scan with fewer voxels are dropped; 0 and 1 keep all."""
    max_distance_mm: float | Mapping[str, float] | None = None
    """Components farther than this from the organ's largest one in the scan are dropped; None keeps all."""
    exclusive: bool = False
    """A pixel counts for its most probable organ alone: for masks that hold one value a pixel."""
    fill_gaps: bool = False
    """Set pixels that both neighbouring slices have."""
    gate_threshold: float | Mapping[str, float] = 0.5
    """Probability from which a pixel counts for the gate; only members of that role are asked."""
    gate_min_px: int | Mapping[str, int] = 1
    """Pixels that the gate must see for an organ to be drawn on a slice."""
    gate_smoothing: int = 1
    """Slices, odd, over which the gate's pixel counts are averaged along z; 1 does not average."""
    own_gate_threshold: float | Mapping[str, float] = 0.5
    """Probability from which a pixel counts for the gate that the segmenters are to themselves."""
    own_gate_min_px: int | Mapping[str, int] = 0
    """Such pixels that a slice needs for an organ to be drawn on it; 0 is no such gate. ``gate_smoothing`` holds for
    both gates."""
    on_empty_test: str = "train"
    """What is predicted where there is no test scan, as when a notebook is saved: ``train`` takes the first
    training scans, to prove that everything runs; ``header`` writes the header alone."""
    empty_test_scans: int = 2
    """How many training scans that is."""
    max_failed_share: float = 0.05
    """Share of scans that may fail in the hidden rerun, their rows left empty; more of them fail the run."""

    def __post_init__(self) -> None:
        require(self.tta in TTA_NAMES, "prediction.tta", self.tta, f"one of {', '.join(TTA_NAMES)}")
        require(self.batch_size >= 1, "prediction.batch_size", self.batch_size, "1 or more")
        for name in ("threshold", "gate_threshold", "own_gate_threshold"):
            for value in _values(getattr(self, name)):
                require(0 < value < 1, f"prediction.{name}", getattr(self, name), "over 0 and below 1")
        counts = ("min_component_px", "min_area_px", "min_component_voxels", "gate_min_px", "own_gate_min_px")
        for name in counts:
            for value in _values(getattr(self, name)):
                require(value >= 0, f"prediction.{name}", getattr(self, name), "0 or more")
        for value in _values(self.max_distance_mm):
            require(value is None or value >= 0, "prediction.max_distance_mm", value, "0 or more, or null")
        require(
            self.gate_smoothing >= 1 and self.gate_smoothing % 2 == 1,
            "prediction.gate_smoothing",
            self.gate_smoothing,
            "an odd number, 1 or more",
        )
        precisions = ("auto", "fp32", "fp16", "bf16")
        require(
            self.precision in precisions,
            "prediction.precision",
            self.precision,
            f"one of {', '.join(precisions)}",
        )
        known = ("train", "header")
        require(
            self.on_empty_test in known,
            "prediction.on_empty_test",
            self.on_empty_test,
            f"one of {', '.join(known)}",
        )
        require(
            0 <= self.max_failed_share <= 1, "prediction.max_failed_share", self.max_failed_share, "0 to 1"
        )
        require(self.empty_test_scans >= 1, "prediction.empty_test_scans", self.empty_test_scans, "1 or more")


@dataclass(frozen=True)
class Settings:
    """Everything a run is made from."""

    preset: str = "custom"
    """The preset it started from."""
    layout: str = "uw-madison"
    """The competition's layout."""
    organs: tuple[str, ...] = ("large_bowel", "small_bowel", "stomach")
    """Class names in the order of the network's outputs; `gitract train` sets them from the data's layout."""
    mask_values: tuple[int, ...] = ()
    """What each organ's pixels are in the mask pictures that the data came with; () where it came with run lengths."""
    window: WindowSettings = field(default_factory=WindowSettings)
    geometry: GeometrySettings = field(default_factory=GeometrySettings)
    intensity: IntensitySettings = field(default_factory=IntensitySettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    """In a preset or an assignment also a name: ``none``, ``flip``, ``light``, ``medium`` (the default), ``strong``."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    prediction: PredictionSettings = field(default_factory=PredictionSettings)

    def __post_init__(self) -> None:
        values = self.mask_values
        require(
            not values or len(set(values)) == len(values) == len(self.organs),
            "mask_values",
            values,
            f"one value for each of {', '.join(self.organs)}",
        )
        require(all(0 < value < 2**16 for value in values), "mask_values", values, "1 to 65535")


def preset_names() -> list[str]:
    """Return the names of the shipped presets, sorted."""
    folder = resources.files("gitract_kit") / "presets"
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_preset(name: str) -> Settings:
    """Return the settings of the preset ``name``; an unknown name is a `SettingsError` that lists the known ones."""
    if name not in preset_names():
        raise SettingsError(f"no preset is called {name!r}{nearest(name, preset_names())}")
    text = (resources.files("gitract_kit") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return settings_from_dict({**(yaml.safe_load(text) or {}), "preset": name})


def settings_from_dict(values: Mapping[str, Any]) -> Settings:
    """Return the settings that a plain mapping describes; what it leaves out keeps its default.

    An unknown key, or a value of the wrong type or range, is a `SettingsError`.
    """
    return read_dataclass(Settings, values)


def settings_to_dict(settings: Settings) -> dict[str, Any]:
    """Return plain dicts, lists, strings and numbers that `settings_from_dict` reads back to equal settings."""
    return to_plain(dataclasses.asdict(settings))


def override_settings(settings: Settings, assignments: Iterable[str]) -> Settings:
    """Return ``settings`` changed by assignments such as ``training.epochs=3``.

    The value is read as YAML, so ``null``, numbers, lists and ``{bce: 1, dice: 3}`` all work.
    """
    values = settings_to_dict(settings)
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise SettingsError(
                f"{assignment!r} is not an assignment; write it as key=value, say training.epochs=3"
            )
        _assign(values, key.strip(), _yaml_value(key, text))
        if isinstance(values["augmentation"], str):
            # spelled out at once, so that a later assignment can change a part of it
            values["augmentation"] = to_plain(
                dataclasses.asdict(AugmentationSettings.named(values["augmentation"]))
            )
    return settings_from_dict(values)


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        child = values.get(parent)
        if not isinstance(child, dict):
            raise SettingsError(f"no setting is called {key!r}{nearest(parent, sorted(values))}")
        values = child
    values[last] = value


def _yaml_value(key: str, text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{key}: {text!r} is not a YAML value ({error})") from error
    # YAML reads 1e-3 as a string: it wants 1.0e-3
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _values(setting: Any) -> tuple[Any, ...]:
    """The numbers of a setting that is one number for all organs or one an organ."""
    return tuple(setting.values()) if isinstance(setting, Mapping) else (setting,)
