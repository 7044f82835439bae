"""Batches of training samples, prepared in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator

import cv2
import torch
from torch.utils.data import BatchSampler, DataLoader

from gitract_kit.data.dataset import SliceDataset
from gitract_kit.data.sampling import EpochDraws
from gitract_kit.settings import TrainingSettings
from gitract_kit.training.processes import Processes

__all__ = ["create_loader"]


def create_loader(
    data: SliceDataset, draws: EpochDraws, settings: TrainingSettings, processes: Processes
) -> DataLoader:
    """Return this process's share of every batch of ``draws``.

    A batch is (images (b, slices, H, W), masks (b, organs, H, W)) float32; ``settings.batch_size`` counts the
    samples of all processes.
    """
    # a last batch of one slice would leave batch normalisation nothing to average over
    batches = BatchSampler(draws, settings.batch_size, drop_last=len(draws) > settings.batch_size)
    # asked for once here, so that batches that cannot be shared are noticed before the first one
    processes.share(min(settings.batch_size, len(draws)))
    workers = {}
    if settings.workers:
        # fork would copy locks that OpenCV's and torch's threads hold, and the workers would wait for ever
        context = multiprocessing.get_context("forkserver")
        # imported once, where the workers come from, and not by each of them
        context.set_forkserver_preload(["__main__", __name__])
        workers = {
            "multiprocessing_context": context,
            "persistent_workers": True,
            "worker_init_fn": _start_worker,
        }
    return DataLoader(
        data,
        batch_sampler=_Shares(batches, processes),
        num_workers=settings.workers,
        pin_memory=processes.device.type == "cuda",
        **workers,
    )


class _Shares:
    """A process's shares of batches that all processes draw alike."""

    def __init__(self, batches: BatchSampler, processes: Processes) -> None:
        self._batches, self._processes = batches, processes

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return (batch[self._processes.share(len(batch))] for batch in self._batches)


def _start_worker(_: int) -> None:
    # the workers share the cores with the network: more threads each would only get in its way
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    # torch's worker watches its parent process, which is not the run but the server that forked it: of a run
    # that was killed both would stay for ever
    multiprocessing.parent_process().join()
    os._exit(1)
