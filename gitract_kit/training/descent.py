"""From a loss to the next weights: gradients, the optimiser's step, the learning rate, and the moving average."""

from __future__ import annotations

from typing import Any

import torch

from gitract_kit.settings import TrainingSettings
from gitract_kit.training.averaging import create_moving_average
from gitract_kit.training.optimizers import create_optimizer
from gitract_kit.training.schedule import Schedule

__all__ = ["Descent"]


class Descent:
    """Changes ``network`` by one loss after the other; ``batches`` is how many an epoch has.

    ``precision`` is what the forward pass computes in: float16 has its gradients scaled.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        settings: TrainingSettings,
        batches: int,
        device: torch.device,
        precision: torch.dtype | None,
    ) -> None:
        self._network, self._settings, self._batches = network, settings, batches
        self._optimizer = create_optimizer(network.parameters(), settings)
        self._schedule = Schedule(
            self._optimizer, settings, steps_per_epoch=-(-batches // settings.accumulate)
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)
        self._average = create_moving_average(network, settings.ema_decay) if settings.ema_decay else None

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def scored(self) -> torch.nn.Module:
        """The network that is scored and kept: the moving average where there is one."""
        return self._network if self._average is None else self._average.module

    def add(self, loss: torch.Tensor, batch: int) -> None:
        """Add the gradient of ``loss`` to its group's, and step where the group is full or the epoch ends."""
        position = batch % self._settings.accumulate
        group = min(self._settings.accumulate, self._batches - (batch - position))
        if position == 0:
            self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss / group).backward()
        if position == group - 1:
            self._step()

    def after_epoch(self, score: float) -> None:
        """Go on by one epoch, which reached ``score`` on the held-out scans."""
        self._schedule.after_epoch(score)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` goes on from, the network's own weights left out."""
        return {
            "average": None if self._average is None else self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "learning_rate": self._settings.learning_rate,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where ``state`` was taken, at the settings' learning rate."""
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["scheduler"])
        # empty where the run has not computed in float16 so far
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        self._schedule.multiply_rates(self._settings.learning_rate / state["learning_rate"])

    def _step(self) -> None:
        self._scaler.unscale_(self._optimizer)
        if self._settings.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._settings.gradient_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.after_step()
        if self._average is not None:
            self._average.update_parameters(self._network)
