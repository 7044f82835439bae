"""Mixes of two samples into one: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), masks and all."""

from __future__ import annotations

import numpy as np
import torch

from gitract_kit.settings import TrainingSettings

__all__ = ["blend", "mix_batch", "paste"]

Batch = tuple[torch.Tensor, torch.Tensor]


def mix_batch(
    images: torch.Tensor, masks: torch.Tensor, settings: TrainingSettings, *, epoch: int, step: int
) -> Batch:
    """Return the batch, or with the settings' probabilities a mix of it with itself in another order.

    ``images`` (b, slices, H, W) and ``masks`` (b, organs, H, W) are not changed. What is drawn depends on the seed,
    ``epoch`` and ``step`` alone, so that a resumed run mixes what the unbroken one would have.
    """
    if not settings.mixup and not settings.cutmix:
        return images, masks
    rng = np.random.default_rng([settings.seed, epoch, step])
    drawn = rng.random()
    if drawn >= settings.mixup + settings.cutmix:
        return images, masks
    order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    share = float(rng.beta(settings.mix_alpha, settings.mix_alpha))
    if drawn < settings.mixup:
        return blend(images, order, share), blend(masks, order, share)
    rows, columns = _rectangle(rng, images.shape[-2:], share)
    return paste(images, order, rows, columns), paste(masks, order, rows, columns)


def blend(batch: torch.Tensor, order: torch.Tensor, share: float) -> torch.Tensor:
    """Return ``share`` of each sample of ``batch`` plus the rest of the one that ``order`` puts in its place."""
    return share * batch + (1 - share) * batch[order]


def paste(batch: torch.Tensor, order: torch.Tensor, rows: slice, columns: slice) -> torch.Tensor:
    """Return a copy of ``batch`` whose rectangle comes from the samples that ``order`` puts in their place."""
    mixed = batch.clone()
    mixed[..., rows, columns] = batch[order][..., rows, columns]
    return mixed


def _rectangle(rng: np.random.Generator, shape: tuple[int, int], share: float) -> tuple[slice, slice]:
    """Return rows and columns that cover 1 - ``share`` of ``shape``, less where they reach over its edge."""
    side = np.sqrt(1 - share)
    spans = []
    for extent in shape:
        centre, half = rng.integers(extent), side * extent / 2
        spans.append(slice(max(0, round(centre - half)), min(extent, round(centre + half))))
    return spans[0], spans[1]
