"""Networks by name: those of segmentation-models-pytorch over its own and timm's encoders, and two of the kit's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from timm.models import adapt_input_conv

from gitract_kit.errors import SettingsError
from gitract_kit.models.initial import read_weights
from gitract_kit.models.resunetplusplus import ResUNetPlusPlus
from gitract_kit.models.unet_2015 import UNet2015
from gitract_kit.settings import ModelSettings
from gitract_kit.strict import nearest

__all__ = ["architecture_names", "create_model"]

_OVER_ENCODERS = {
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "deeplabv3": smp.DeepLabV3,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "fpn": smp.FPN,
    "upernet": smp.UPerNet,
    "manet": smp.MAnet,
    "segformer": smp.Segformer,
}
_OWN = {"unet_2015": UNet2015, "resunetplusplus": ResUNetPlusPlus}
_ARCHITECTURES = {**_OVER_ENCODERS, **_OWN}


def architecture_names() -> list[str]:
    """Return the names that ``model.architecture`` takes."""
    return sorted(_ARCHITECTURES)


def create_model(model: ModelSettings, *, in_channels: int, classes: int) -> torch.nn.Module:
    """Return the network: (b, in_channels, H, W) float32 to logits (b, classes, H, W).

    H and W are multiples of 32. With ``model.encoder_weights`` None the weights are random; a name is fetched by
    the libraries, which needs a network; a path ending in ``.safetensors`` is read from the disk, its tensors named
    as smp's encoder names them or, for ``tu-NAME``, as timm's whole NAME does. The first convolution is adapted to
    ``in_channels``. What cannot be made is a `SettingsError`.
    """
    architecture = _architecture(model.architecture)
    if model.architecture in _OWN:
        return _create_own(architecture, model, in_channels, classes)
    weights = model.encoder_weights
    local = weights is not None and weights.endswith(".safetensors")
    try:
        network = architecture(
            encoder_name=model.encoder,
            encoder_weights=None if local else _fetched(model),
            in_channels=in_channels,
            classes=classes,
            **_depth_arguments(model),
        )
    # the last two are how timm refuses an output stride, which DeepLab asks of every encoder
    except (KeyError, ValueError, RuntimeError, TypeError, AssertionError) as error:
        raise SettingsError(
            f"{model.architecture} over {model.encoder} cannot be made: {str(error) or repr(error)}; "
            "see model.architecture, model.encoder, model.encoder_depth and model.decoder_channels"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"model.encoder_weights: {weights!r} cannot be fetched for {model.encoder} ({error}); without a network "
            "give the path of a .safetensors file, or null"
        ) from error
    if model.architecture == "fpn":
        _check_pyramid(network.encoder, model)
    if local:
        _load_encoder(network.encoder, Path(weights), in_channels)
    return network


def _create_own(
    architecture: type[torch.nn.Module], model: ModelSettings, in_channels: int, classes: int
) -> torch.nn.Module:
    if model.encoder_weights is not None:
        raise SettingsError(
            f"model.encoder_weights: {model.architecture} has an encoder of its own, without any; "
            "set null, or start from another run with model.initial_weights"
        )
    if model.decoder_channels is None:
        return architecture(in_channels, classes)
    if not model.decoder_channels or min(model.decoder_channels) < 2:
        raise SettingsError(
            f"model.decoder_channels is {list(model.decoder_channels)}; give one or more widths of 2 or more"
        )
    return architecture(in_channels, classes, model.decoder_channels)


def _fetched(model: ModelSettings) -> str | bool | None:
    # a timm encoder's name says which of its weights: smp wants to hear only whether to fetch them
    if model.encoder_weights is not None and model.encoder.startswith("tu-"):
        return True
    return model.encoder_weights


def _architecture(name: str) -> type[torch.nn.Module]:
    if name not in _ARCHITECTURES:
        raise SettingsError(f"no architecture is called {name!r}{nearest(name, architecture_names())}")
    return _ARCHITECTURES[name]


def _depth_arguments(model: ModelSettings) -> dict[str, object]:
    arguments: dict[str, object] = {"encoder_depth": model.encoder_depth}
    if model.architecture == "fpn":
        # its pyramid ends three halvings above the encoder's bottom, which smp counts on being the fifth
        arguments["upsampling"] = 2 ** (model.encoder_depth - 3)
    if model.decoder_channels is None:
        return arguments
    parameter = inspect.signature(_architecture(model.architecture)).parameters.get("decoder_channels")
    # DeepLab's decoder has one width, a U-Net's one a stage
    if parameter is None or isinstance(parameter.default, int):
        raise SettingsError(f"{model.architecture} has no stages for model.decoder_channels; set it to null")
    if len(model.decoder_channels) != model.encoder_depth:
        raise SettingsError(
            f"model.decoder_channels has {len(model.decoder_channels)} stages, "
            f"model.encoder_depth is {model.encoder_depth}; give one number a stage"
        )
    return {**arguments, "decoder_channels": model.decoder_channels}


def _check_pyramid(encoder: torch.nn.Module, model: ModelSettings) -> None:
    # an encoder that begins at a quarter of the input has no channels at half of it, and a pyramid of four levels
    # reaches up to there unless there are five halvings
    if 0 in encoder.out_channels[-4:]:
        raise SettingsError(
            f"model.encoder_depth is {model.encoder_depth}, and {model.encoder} gives nothing at half of the input's "
            "size, which fpn then needs; set model.encoder_depth to 5, or take another architecture, say unet"
        )


def _load_encoder(encoder: torch.nn.Module, path: Path, in_channels: int) -> None:
    """Load the encoder's weights from a safetensors file, its first convolution adapted to ``in_channels``.

    What the file has beyond the encoder, a classifier or deeper stages, is left out.
    """
    own = encoder.state_dict()
    given = read_weights(path, "model.encoder_weights", "mount it, or set null to start from random weights")
    state = {_own_name(name, own): tensor for name, tensor in given.items()}
    for name, tensor in state.items():
        if name in own and tensor.ndim == 4 and tensor.shape[1] == 3 != own[name].shape[1] == in_channels:
            state[name] = adapt_input_conv(in_channels, tensor)
    try:
        # torch's own method: those of some smp encoders do not return what is missing
        missing, _ = torch.nn.Module.load_state_dict(encoder, state, strict=False)
    except RuntimeError as error:
        raise SettingsError(
            f"model.encoder_weights: {path} is not of this encoder ({error}); give a file of it, or set null"
        ) from error
    if missing:
        raise SettingsError(
            f"model.encoder_weights: {path} lacks {len(missing)} tensors, {missing[0]} the first; "
            "give a file of this encoder, or set null"
        )


def _own_name(name: str, own: Mapping[str, torch.Tensor]) -> str:
    """Return what the encoder calls the tensor that its file calls ``name``.

    smp holds timm's network as ``model``. What timm makes of a network for its features calls the parts of the
    outermost sequences ``stages_0``, not ``stages.0``, or holds the whole network as another ``model``.
    """
    renamed = (name, f"model.{name}", f"model.{name.replace('.', '_', 1)}", f"model.model.{name}")
    return next((one for one in renamed if one in own), name)
