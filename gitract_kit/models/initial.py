"""Weights as a start: those of another run, and what any file of weights is read by."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gitract_kit.errors import SettingsError

__all__ = ["load_initial_weights", "read_weights"]


def load_initial_weights(network: torch.nn.Module, path: str | Path) -> list[str]:
    """Load what fits of the safetensors file ``path`` into ``network`` and return the names of what did not.

    A tensor fits that has the name and the shape of the network's own; the others of the network keep their values
    and are named, with both shapes where the file has one too. A file that is missing, damaged or without a single
    fitting weight is a `SettingsError`.
    """
    path, own = Path(path), network.state_dict()
    remedy = "give the model.safetensors of another run, or set null"
    given = read_weights(path, "model.initial_weights", remedy)
    fitting = {name: tensor for name, tensor in given.items() if _shape(own, name) == tensor.shape}
    if not any(tensor.ndim for tensor in fitting.values()):
        raise SettingsError(
            f"model.initial_weights: no tensor of {path} fits this network; "
            "give the model.safetensors of a run with the same model settings, or set null"
        )
    network.load_state_dict(fitting, strict=False)
    return [_describe(name, own, given) for name in own if name not in fitting]


def read_weights(path: Path, setting: str, remedy: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file that ``setting`` names; ``remedy`` says what to do where it is absent.

    A file that is absent or torn is a `SettingsError`.
    """
    if not path.is_file():
        raise SettingsError(f"{setting}: no file {path}; {remedy}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise SettingsError(
            f"{setting}: {path} is not a whole safetensors file ({error}); fetch it again, or set null"
        ) from error


def _shape(tensors: dict[str, torch.Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _describe(name: str, own: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> str:
    if name not in given:
        return f"{name} (not in the file)"
    return f"{name} ({tuple(given[name].shape)} in the file, {tuple(own[name].shape)} here)"
