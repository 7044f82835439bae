"""Losses by name, summed by weight. Each takes logits and a soft target, (b, organs, H, W) both."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from segmentation_models_pytorch import losses as smp_losses
from torch.nn import functional

from gitract_kit.errors import SettingsError
from gitract_kit.strict import nearest

__all__ = ["create_loss", "dice_loss", "loss_names"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def dice_loss(logits: torch.Tensor, target: torch.Tensor, smooth: float = 1.0) -> torch.Tensor:
    """Return 1 - Dice of the probabilities, one Dice an organ over the whole batch, averaged over organs.

    Over the batch, not a slice: most slices hold no organ, and the Dice of an empty mask says nothing. The
    squared form of the denominator is that of V-Net (Milletari et al. 2016, doi 10.1109/3DV.2016.79).
    """
    probabilities = logits.float().sigmoid()
    axes = (0, 2, 3)
    intersection = (probabilities * target).sum(axes)
    size = probabilities.square().sum(axes) + target.square().sum(axes)
    return (1 - (2 * intersection + smooth) / (size + smooth)).mean()


def _bce_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), target)


def _focal_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return _FOCAL(logits.float(), target)


def _lovasz_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    # the hinge is defined for labels of 0 or 1: a soft target is cut where a prediction will be
    return _LOVASZ(logits.float(), (target >= 0.5).float())


def _tversky_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return _TVERSKY(logits.float(), target)


# smp's defaults: gamma 2; alpha and beta 0.5, as in the public notebooks
_FOCAL = smp_losses.FocalLoss("multilabel")
_LOVASZ = smp_losses.LovaszLoss("multilabel")
_TVERSKY = smp_losses.TverskyLoss("multilabel")
_LOSSES: dict[str, Loss] = {
    "bce": _bce_loss,
    "dice": dice_loss,
    "focal": _focal_loss,
    "lovasz": _lovasz_loss,
    "tversky": _tversky_loss,
}


def loss_names() -> list[str]:
    """Return the names that ``training.loss`` takes."""
    return sorted(_LOSSES)


def create_loss(weights: Mapping[str, float]) -> Loss:
    """Return the weighted sum of losses, say ``{"bce": 0.5, "dice": 0.5}``, as a function of logits and target."""
    if not weights:
        raise SettingsError(f"training.loss is empty; name at least one of {', '.join(loss_names())}")
    for name in weights:
        if name not in _LOSSES:
            raise SettingsError(f"no loss is called {name!r}{nearest(name, loss_names())}")

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return torch.stack([weight * _LOSSES[name](logits, target) for name, weight in weights.items()]).sum()

    return loss
