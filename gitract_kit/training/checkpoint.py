"""Checkpoints of a fold: whole or absent, the last two kept, read without unpickling."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save

from gitract_kit.files import atomic_path, write_bytes_atomic, write_text_atomic

__all__ = [
    "load_newest_checkpoint",
    "newest_checkpoint",
    "read_kept_weights",
    "save_checkpoint",
    "save_weights",
]

_PATTERN = "checkpoint_*.pt"
_KEPT = 2


def save_checkpoint(folder: Path, epoch: int, state: Mapping[str, Any]) -> Path:
    """Write ``state`` as the checkpoint after ``epoch`` and remove all but the last two."""
    path = folder / f"checkpoint_{epoch:04d}.pt"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        _write(state, file)
    for old in sorted(folder.glob(_PATTERN))[:-_KEPT]:
        old.unlink()
    return path


def _write(state: Mapping[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(dict(state), file)
    except RuntimeError as error:
        # torch's writer complains of a position in the file, and hides that the disk was full
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint in ``folder``, or None where there is none."""
    return max(folder.glob(_PATTERN), default=None)


def load_newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint that can be read and its state, or None where there is none.

    A torn one is passed over with a warning that names it.
    """
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        try:
            _check_sums(path)
            return path, torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            warnings.warn(f"{path} cannot be read ({error}); taking the one before", stacklevel=2)
    return None


def _check_sums(path: Path) -> None:
    # torch reads numbers that were altered on the disk as if nothing had happened
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} in it is damaged")


def save_weights(folder: Path, weights: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
    """Write ``model.safetensors`` and, beside it, ``model.json``: ``about`` and the weights' sha256.

    The JSON is written last, so that a pair whose hash agrees is whole.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    write_bytes_atomic(folder / "model.safetensors", content)
    described = {"format": 1, **about, "sha256": sha256(content).hexdigest()}
    write_text_atomic(folder / "model.json", json.dumps(described, indent=2) + "\n")


def read_kept_weights(folder: Path) -> dict[str, Any] | None:
    """Return what `save_weights` wrote as ``about``, or None where the two files do not belong together."""
    try:
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        content = (folder / "model.safetensors").read_bytes()
    except FileNotFoundError:
        return None
    return described if described["sha256"] == sha256(content).hexdigest() else None
