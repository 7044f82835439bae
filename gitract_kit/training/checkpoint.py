"""Checkpoints of a fold: whole or absent, the last two kept, read without unpickling."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from gitract_kit.files import atomic_path, write_bytes_atomic, write_text_atomic

__all__ = ["load_newest_checkpoint", "save_checkpoint", "save_weights"]

_PATTERN = "checkpoint_*.pt"
_KEPT = 2


def save_checkpoint(folder: Path, epoch: int, state: Mapping[str, Any]) -> Path:
    """Write ``state`` as the checkpoint after ``epoch`` and remove all but the last two."""
    path = folder / f"checkpoint_{epoch:04d}.pt"
    with atomic_path(path) as temporary:
        torch.save(dict(state), temporary)
    for old in sorted(folder.glob(_PATTERN))[:-_KEPT]:
        old.unlink()
    return path


def load_newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint that can be read and its state, or None where there is none.

    A torn one is passed over with a warning that names it.
    """
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        try:
            return path, torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            warnings.warn(f"{path} cannot be read ({error}); taking the one before", stacklevel=2)
    return None


def save_weights(folder: Path, weights: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and, beside it, ``model.json``: ``about`` and the weights' sha256.

    The JSON is written last, so that a pair whose hash agrees is whole.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    write_bytes_atomic(folder / "model.safetensors", content)
    described = {"format": 1, **about, "sha256": sha256(content).hexdigest()}
    write_text_atomic(folder / "model.json", json.dumps(described, indent=2) + "\n")
