"""Averages of a network's weights: a moving one after every step, and one over the last epochs."""

from __future__ import annotations

import torch
from torch.optim.swa_utils import AveragedModel

__all__ = ["create_epoch_average", "create_moving_average"]


def create_moving_average(network: torch.nn.Module, decay: float) -> AveragedModel:
    """Return the exponential moving average (EMA) of ``network``'s weights and buffers, to be updated every step.

    A young average follows quickly, or the first random weights would stay in it for hundreds of steps.
    """

    def follow(averaged: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor) -> None:
        steps = int(updates) + 1
        kept = min(decay, (1 + steps) / (10 + steps))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - kept)
            else:
                old.copy_(new)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)


def create_epoch_average(network: torch.nn.Module) -> AveragedModel:
    """Return the plain average of weights (SWA; Izmailov et al. 2018, arXiv 1803.05407), to be updated after an epoch.

    The statistics of its batch normalisation are not those of the average: `torch.optim.swa_utils.update_bn`
    computes them from the training slices before it is used.
    """
    return AveragedModel(network)
