"""The weights of another run as a start."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gitract_kit.errors import SettingsError

__all__ = ["load_initial_weights"]


def load_initial_weights(network: torch.nn.Module, path: str | Path) -> list[str]:
    """Load what fits of the safetensors file ``path`` into ``network`` and return the names of what did not.

    A tensor fits that has the name and the shape of the network's own; the others of the network keep their values
    and are named, with both shapes where the file has one too. A file that is missing, damaged or without a single
    fitting weight is a `SettingsError`.
    """
    path, own = Path(path), network.state_dict()
    given = _read(path)
    fitting = {name: tensor for name, tensor in given.items() if _shape(own, name) == tensor.shape}
    if not any(tensor.ndim for tensor in fitting.values()):
        raise SettingsError(
            f"model.initial_weights: no tensor of {path} fits this network; "
            "give the model.safetensors of a run with the same model settings, or set null"
        )
    network.load_state_dict(fitting, strict=False)
    return [_describe(name, own, given) for name in own if name not in fitting]


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise SettingsError(
            f"model.initial_weights: no file {path}; give the model.safetensors of another run, or set null"
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise SettingsError(
            f"model.initial_weights: {path} is not a whole safetensors file ({error})"
        ) from error


def _shape(tensors: dict[str, torch.Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _describe(name: str, own: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> str:
    if name not in given:
        return f"{name} (not in the file)"
    return f"{name} ({tuple(given[name].shape)} in the file, {tuple(own[name].shape)} here)"
