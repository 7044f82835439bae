"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from gitract_kit.settings import TrainingSettings

__all__ = ["create_optimizer"]


def create_optimizer(
    parameters: Iterable[torch.nn.Parameter], settings: TrainingSettings
) -> torch.optim.Optimizer:
    """Return the optimiser that ``settings`` name, with their rate and weight decay; SGD has Nesterov's momentum."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.optimizer]
    return kind(parameters, lr=rate, weight_decay=decay)
