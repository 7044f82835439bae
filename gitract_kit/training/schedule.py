"""The learning rate over a run."""

from __future__ import annotations

import math

__all__ = ["cosine_factor"]


def cosine_factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Return the share of the highest learning rate at ``step``, counted from 0.

    It rises linearly over the warm-up and falls to a hundredth along half a cosine.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
