"""One run in several processes, as torchrun starts them: who they are, and what they tell one another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch.nn.parallel import DistributedDataParallel

from gitract_kit.errors import SettingsError, TrainingError

__all__ = ["Processes", "is_main_process", "join_processes"]

# while the main process scores the held-out scans the others wait: long enough for any set of them
_PATIENCE = timedelta(hours=4)


def is_main_process() -> bool:
    """Return whether this process is the one that writes, scores and speaks: torchrun's rank 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them. Alone, everything here does nothing."""

    device: torch.device
    """What this one computes on."""
    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files, scores and speaks."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Return which of a batch's ``total`` samples are this process's; shares are equal and in order of rank."""
        size, rest = divmod(total, self.count)
        if rest or not size:
            raise SettingsError(
                f"a batch of {total} slices cannot be shared evenly by {self.count} processes; "
                f"make training.batch_size, which counts all processes, a multiple of {self.count}"
            )
        return slice(self.rank * size, (self.rank + 1) * size)

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """Return the processes' tensors joined along the first axis: the whole batch of which ``own`` is a share.

        Gradients flow to ``own`` alone. Each process then holds its share's part of the loss's gradient, and
        DistributedDataParallel averages where they are to be summed: multiply the loss by ``count``.
        """
        if self.count == 1:
            return own
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own.detach())
        parts[self.rank] = own
        return torch.cat(parts)

    def from_main(self, act: Callable[[], Any]) -> Any:
        """Return in every process what ``act`` returns in the main one; what it raises there ends all of them."""
        if self.count == 1:
            return act()
        told: list[Any] = [None, None]
        try:
            if self.main:
                told[0] = act()
        except BaseException as error:
            told[1] = str(error) or type(error).__name__
            raise
        finally:
            dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
        if told[1] is not None:
            raise TrainingError(f"process {self.rank} ends because the main one did: {told[1]}")
        return told[0]

    def normalising_together(self, network: torch.nn.Module) -> torch.nn.Module:
        """Return ``network`` with batch normalisation over all processes, where torch can: on GPUs, not on CPUs."""
        if self.count == 1 or self.device.type == "cpu":
            return network
        return convert_sync_batchnorm(network)

    def normalise_apart(self, network: torch.nn.Module) -> bool:
        """Return whether ``network`` has batch normalisation that sees this process's share of a batch alone."""
        apart = self.count > 1 and self.device.type == "cpu"
        return apart and any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())

    def together(self, network: torch.nn.Module) -> torch.nn.Module:
        """Return ``network`` so that a backward pass averages its gradients over the processes."""
        if self.count == 1:
            return network
        # a static graph: the first pass shows which layers of the encoder the decoder does not ask for
        devices = None if self.device.type == "cpu" else [self.device]
        return DistributedDataParallel(network, device_ids=devices, static_graph=True)


@contextmanager
def join_processes(device: str | None) -> Iterator[Processes]:
    """Yield the processes that torchrun's environment speaks of, connected, or this one alone.

    ``device`` is as in `torch.device`; None is a GPU where there is one. GPUs talk by NCCL, CPUs by Gloo.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(_named_device(device))
        return
    own = _own_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo", timeout=_PATIENCE)
    processes = Processes(own, dist.get_rank(), count)
    try:
        yield processes
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise TrainingError(
            f"process {processes.rank} of {count} lost another one, whose own message says why; "
            "go on with --resume"
        ) from error
    # after an error torchrun ends the others: to take leave of them could wait for ever
    dist.destroy_process_group()


def _named_device(name: str | None) -> torch.device:
    gpus = torch.cuda.device_count()
    try:
        device = torch.device(name or ("cuda" if gpus else "cpu"))
    except RuntimeError as error:
        raise SettingsError(f"{name!r} is no device; name cpu, cuda, or one GPU, say cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise SettingsError(
            f"--device {name} was asked for, and torch finds {gpus} GPUs here; name another, or cpu"
        )
    return device


def _own_device(name: str | None) -> torch.device:
    device = _named_device(name)
    if device.type != "cuda":
        return device
    local, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device.index is not None or local >= found:
        raise SettingsError(
            f"each process takes a GPU of its own: found --device {device}, {found} GPUs and at least {local + 1} "
            "processes here; leave the number out, and give --nproc_per_node at most as many as there are GPUs"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
