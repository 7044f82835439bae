"""Test-time augmentation by name: a network's probabilities averaged over views of the same input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from gitract_kit.errors import SettingsError
from gitract_kit.strict import nearest

__all__ = ["average_views", "check_tta", "count_views", "tta_names"]

_STRIDE = 32
"""Sides that every encoder takes are multiples of this."""


@dataclass(frozen=True)
class _View:
    """One way to look at an input, and back."""

    flips: tuple[int, ...] = ()
    """Axes that are mirrored: -1 is left-right, -2 up-down."""
    scale: float = 1.0
    """Side of the view as a share of the input's."""

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Return ``images`` (b, c, H, W) as this view shows them."""
        size = tuple(max(_STRIDE, round(side * self.scale / _STRIDE) * _STRIDE) for side in images.shape[-2:])
        return self._flip(_resize(images, size) if self.scale != 1 else images)

    def undo(self, probabilities: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Return ``probabilities`` of this view on the input's grid of ``size`` (H, W)."""
        return _resize(self._flip(probabilities), size)

    def _flip(self, images: torch.Tensor) -> torch.Tensor:
        return images.flip(self.flips) if self.flips else images


_VIEWS: dict[str, tuple[_View, ...]] = {
    "none": (_View(),),
    "hflip": (_View(), _View(flips=(-1,))),
    "flips": (_View(), _View(flips=(-1,)), _View(flips=(-2,)), _View(flips=(-2, -1))),
    "scales": (_View(), _View(scale=0.75), _View(scale=1.25)),
}


def tta_names() -> list[str]:
    """Return the names that ``prediction.tta`` takes."""
    return list(_VIEWS)


def check_tta(name: str) -> None:
    """Raise a `SettingsError` that names the nearest known one where ``name`` is no augmentation."""
    if name not in _VIEWS:
        known = nearest(str(name), tta_names())
        raise SettingsError(f"prediction.tta: no test-time augmentation is called {name!r}{known}")


def count_views(name: str) -> int:
    """Return how many forward passes of an input ``name`` takes."""
    check_tta(name)
    return len(_VIEWS[name])


def average_views(
    predict: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, name: str
) -> torch.Tensor:
    """Return the probabilities of ``images`` (b, c, H, W), averaged over the views of ``name``: (b, organs, H, W).

    ``predict`` turns images into float32 probabilities, in a tensor of their own. One view is in memory at a time,
    beside the running sum.
    """
    check_tta(name)
    size = tuple(images.shape[-2:])
    views = _VIEWS[name]
    total = views[0].undo(predict(views[0].apply(images)), size)
    for view in views[1:]:
        total += view.undo(predict(view.apply(images)), size)
    return total.div_(len(views)) if len(views) > 1 else total


def _resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
