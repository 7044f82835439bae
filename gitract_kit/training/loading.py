"""Batches of training samples, prepared in processes of their own."""

from __future__ import annotations

import cv2
import torch
from torch.utils.data import DataLoader

from gitract_kit.data.dataset import SliceDataset
from gitract_kit.data.sampling import EpochDraws
from gitract_kit.settings import TrainingSettings

__all__ = ["create_loader"]


def create_loader(
    data: SliceDataset, draws: EpochDraws, settings: TrainingSettings, *, pin_memory: bool
) -> DataLoader:
    """Return the batches of ``draws``, (images (b, slices, H, W), masks (b, organs, H, W)) float32."""
    workers = {}
    if settings.workers:
        workers = {
            # fork would copy locks that OpenCV's and torch's threads hold, and the workers would wait for ever
            "multiprocessing_context": "forkserver",
            "persistent_workers": True,
            "worker_init_fn": _one_thread,
        }
    return DataLoader(
        data,
        sampler=draws,
        batch_size=settings.batch_size,
        # a last batch of one slice would leave batch normalisation nothing to average over
        drop_last=len(draws) > settings.batch_size,
        num_workers=settings.workers,
        pin_memory=pin_memory,
        **workers,
    )


def _one_thread(_: int) -> None:
    # the workers share the cores with the network: more threads each would only get in its way
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
