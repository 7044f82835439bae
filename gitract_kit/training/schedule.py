"""The learning rate over a run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import lr_scheduler

from gitract_kit.settings import TrainingSettings

__all__ = ["Schedule", "cosine_factor"]

# where torch's schedules keep the present rate and those that they count from
_RATES = {"lr", "initial_lr", "max_lr", "min_lr"}


def cosine_factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Return the share of the highest learning rate at ``step``, counted from 0.

    It rises linearly over the warm-up and falls to a hundredth along half a cosine.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Schedule:
    """Sets an optimiser's rate after every step or, on a plateau, after every epoch."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, settings: TrainingSettings, *, steps_per_epoch: int
    ) -> None:
        self._optimizer = optimizer
        self._by_epoch = settings.schedule == "plateau"
        create = {"cosine": _cosine, "one-cycle": _one_cycle, "plateau": _plateau}[settings.schedule]
        self._scheduler = create(optimizer, settings, steps_per_epoch)

    def after_step(self) -> None:
        """Go on by one of the optimiser's steps."""
        if not self._by_epoch:
            self._scheduler.step()

    def after_epoch(self, score: float) -> None:
        """Go on by one epoch, which reached ``score`` on the held-out scans."""
        if self._by_epoch:
            self._scheduler.step(score)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` goes on from."""
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where ``state`` was taken."""
        self._scheduler.load_state_dict(state)

    def multiply_rates(self, factor: float) -> None:
        """Make this and every later rate ``factor`` times what it would be."""
        for group in self._optimizer.param_groups:
            for name in _RATES & group.keys():
                group[name] *= factor
        if not self._by_epoch:
            self._scheduler.base_lrs = [rate * factor for rate in self._scheduler.base_lrs]


def _cosine(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, steps: int
) -> lr_scheduler.LambdaLR:
    warmup, total = round(settings.warmup_epochs * steps), settings.epochs * steps
    return lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine_factor(step, warmup_steps=warmup, total_steps=total)
    )


def _one_cycle(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, steps: int
) -> lr_scheduler.OneCycleLR:
    # one more than there are steps: after the last one the scheduler is asked once again
    total = settings.epochs * steps + 1
    return lr_scheduler.OneCycleLR(optimizer, max_lr=settings.learning_rate, total_steps=total)


def _plateau(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, _: int
) -> lr_scheduler.ReduceLROnPlateau:
    return lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=settings.plateau_factor,
        patience=settings.plateau_patience,
        threshold=0.0,
    )
