"""A network over all slices of a scan."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch

from gitract_kit.errors import SettingsError

__all__ = ["autocast", "predict_planes", "select_precision"]


def select_precision(device: torch.device, name: str = "auto") -> torch.dtype | None:
    """Return the dtype that autocast computes in on ``device``, or None for plain float32.

    ``auto`` is bfloat16 where the GPU has it, float16 on an older one, and float32 on a CPU.
    """
    named = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
    if name in named:
        return named[name]
    if name != "auto":
        raise SettingsError(f"training.precision is {name!r}; it must be auto, {', '.join(named)}")
    if device.type != "cuda":
        return None
    # a T4 emulates bfloat16, slower than float32
    native = torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if native else torch.float16


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Return the context in which a forward pass computes in ``dtype``; None leaves float32."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


@torch.inference_mode()
def predict_planes(
    apply: Callable[[torch.Tensor], torch.Tensor],
    planes: np.ndarray,
    positions: np.ndarray,
    *,
    device: torch.device,
    batch_size: int,
) -> np.ndarray:
    """Return what ``apply`` says of every slice of a scan, (z, organ, H, W) float32.

    ``planes`` (z, H, W) float32 are its slices on the network's grid, ``positions`` (z, slices) what each window is
    made of, and ``apply`` takes a batch of windows (b, slices, H, W) to
    what is to be returned of them, (b, organ, H, W).
    """
    resident = torch.from_numpy(planes).to(device)
    windows = torch.from_numpy(positions).to(device)
    batches = (apply(resident[batch]) for batch in windows.split(batch_size))
    return torch.cat([batch.float().cpu() for batch in batches]).numpy()
