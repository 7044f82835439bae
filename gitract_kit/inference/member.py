"""Members: whatever turns a scan into probabilities, and the one that is a 2D or 2.5D network."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Protocol

import numpy as np
import torch

from gitract_kit.data.inputs import ScanInputs
from gitract_kit.data.scans import Scan
from gitract_kit.errors import SettingsError
from gitract_kit.inference.freed_memory import keep_freed_memory
from gitract_kit.inference.pipeline import overlap
from gitract_kit.inference.tta import average_views, count_views
from gitract_kit.models.forward import autocast, select_precision
from gitract_kit.settings import Settings

__all__ = ["Member", "NetworkMember", "predict_together"]

# a scan goes through the networks before the next one starts: batches by turns would have both ready at once, and the
# networks idle while both are encoded
_TURN = Lock()


class Member(Protocol):
    """What an ensemble is made of: a 2D, 2.5D or 3D network, cut along any axis, or anything else."""

    name: str
    """What messages and ``run.json`` call it."""
    organs: tuple[str, ...]
    """Class names in the order of its probabilities."""
    role: str
    """``segment`` draws; ``gate`` says which slices hold an organ at all."""
    weight: float
    """Its share of the mean of its role's members, relative to the others'."""
    group: str
    """Members of one group are folds of one network: with little time left, one stands for them all."""
    passes: int
    """Forward passes a slice."""

    def without_tta(self) -> Member:
        """Return this member with one forward pass a slice."""
        ...

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        """Return (z, organ, y, x) float16 or float32 probabilities at the scan's own size, in an array of its own.

        ``wanted`` (z,) bool names the slices that matter; the others may be left 0.
        """
        ...


class NetworkMember:
    """A network over a window of neighbouring slices as a member of an ensemble.

    ``settings`` are those the network was trained with: window, geometry, intensity and organs. ``tta`` and
    ``batch_size`` default to ``settings.prediction``, whose ``precision`` is what it computes in: unless told
    otherwise bfloat16 on a GPU, or float16 on one older than Ampere. Where a batch does not fit the GPU's memory,
    the batch is halved for good; one slice that does not fit ends in torch's own error.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        settings: Settings,
        device: str | torch.device = "cpu",
        tta: str | None = None,
        batch_size: int | None = None,
        *,
        name: str = "network",
        role: str = "segment",
        weight: float = 1.0,
        group: str = "",
    ) -> None:
        self.name = name
        self.role = role
        self.group = group or name
        self.organs = settings.organs
        self.weight = weight
        self.settings = settings
        self.tta = settings.prediction.tta if tta is None else tta
        self.batch_size = settings.prediction.batch_size if batch_size is None else batch_size
        self.precision = settings.prediction.precision
        if self.batch_size < 1:
            raise SettingsError(f"prediction.batch_size is {self.batch_size}; it must be 1 or more")
        self.device = torch.device(device)
        self.passes = count_views(self.tta)
        # measured on 2 CPU cores: a third less time than the default layout; GPUs with tensor cores want it too
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)
        # started here: in a scan's thread it would inherit how modest that is
        _network_thread()

    def without_tta(self) -> NetworkMember:
        """Return this member with one forward pass a slice; the network is shared."""
        plain = copy.copy(self)
        plain.tta, plain.passes = "none", 1
        return plain

    def in_float32(self) -> NetworkMember:
        """Return this member computing in float32; the network is shared."""
        exact = copy.copy(self)
        exact.precision = "fp32"
        return exact

    @property
    def sees(self) -> Hashable:
        """What its inputs are made by and where they go: members of equal ``sees`` can share them."""
        made_by = self.settings.window, self.settings.geometry, self.settings.intensity
        return *made_by, self.tta, self.device

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        """Return (z, organ, y, x) float32 probabilities at the scan's own size.

        Of the slices that are not ``wanted`` (z,) they are 0: those only feed their neighbours' windows.
        """
        return predict_together([self], scan, wanted)

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Return (b, organ, H, W) float32 of one view of windows (b, slices, H, W), in a tensor of its own."""
        with autocast(self.device, select_precision(self.device, self.precision)):
            logits = self.network(images)
        return logits.float().sigmoid_()


def predict_together(
    members: Sequence[NetworkMember], scan: Scan, wanted: np.ndarray | None = None
) -> np.ndarray:
    """Return the weighted mean of members of equal ``sees``: (z, organ, y, x) float32 at the scan's own size.

    Their input is made once, and their mean is taken on its grid and brought to the scan's size once: as that way
    back is linear, this is the mean of what each of them would answer. Unwanted slices are 0, as in
    `NetworkMember.predict`.
    """
    inputs = ScanInputs(scan, members[0].settings)
    probabilities = np.zeros((len(inputs), len(members[0].organs), *scan.shape), dtype=np.float32)
    slices = np.arange(len(inputs)) if wanted is None else np.flatnonzero(wanted)
    if not len(slices):
        return probabilities
    planes = _to_device(torch.from_numpy(inputs.planes()), members[0].device)
    windows = torch.from_numpy(inputs.positions[slices])
    with _TURN:
        for batch, on_grid in _forward_passes(members, planes, windows, slices):
            for position, plane in zip(batch, on_grid, strict=True):
                probabilities[position] = inputs.geometry.inverse(plane)
    return probabilities


def _to_device(planes: torch.Tensor, device: torch.device) -> torch.Tensor:
    try:
        return planes.to(device)
    except torch.OutOfMemoryError:
        # the windows of a batch may still fit
        return planes


def _forward_passes(
    members: Sequence[NetworkMember], planes: torch.Tensor, windows: torch.Tensor, slices: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of some of ``slices``, and their probabilities (b, organ, H, W) float32, in order.

    ``windows`` (len(slices), w) are the planes that each one's window is made of. The networks are one batch ahead of
    the caller.
    """
    size = min(member.batch_size for member in members)
    starts = range(0, len(slices), size)
    jobs = (partial(_forward, members, planes, windows[start : start + size]) for start in starts)
    for start, future in zip(starts, overlap(jobs, _network_thread(), in_flight=2), strict=True):
        batch = slice(start, start + size)
        on_grid = future.result().cpu().numpy()
        if not np.isfinite(on_grid.sum()) and _in_half_precision(members):
            on_grid = _forward_in_float32(members, planes, windows[batch])
        yield slices[batch], on_grid


def _in_half_precision(members: Sequence[NetworkMember]) -> bool:
    return any(select_precision(member.device, member.precision) is not None for member in members)


def _forward_in_float32(
    members: Sequence[NetworkMember], planes: torch.Tensor, windows: torch.Tensor
) -> np.ndarray:
    warnings.warn(
        f"{', '.join(member.name for member in members)}: a number was too large for half precision; the batch is "
        "computed again in float32. Where that is often, prediction.precision=fp32 saves the first try",
        RuntimeWarning,
        stacklevel=2,
    )
    exact = [member.in_float32() for member in members]
    return _network_thread().submit(_forward, exact, planes, windows).result().cpu().numpy()


@functools.cache
def _network_thread() -> ThreadPoolExecutor:
    """The one thread that networks run in: each thread that computes on a CPU would start a team of its own."""
    keep_freed_memory()
    thread = ThreadPoolExecutor(1, thread_name_prefix="network")
    thread.submit(int).result()
    return thread


@torch.inference_mode()
def _forward(members: Sequence[NetworkMember], planes: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Weighted mean of ``members`` for ``windows`` (b, w) of ``planes`` (z, H, W): (b, organ, H, W) float32."""
    parts = []
    while len(windows):
        batch = windows[: min(member.batch_size for member in members)]
        try:
            images = planes[batch.to(planes.device)].to(members[0].device)
            parts.append(_average(members, images.contiguous(memory_format=torch.channels_last)))
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            for member in members:
                member.batch_size = min(member.batch_size, (len(batch) + 1) // 2)
        else:
            windows = windows[len(batch) :]
    return torch.cat(parts).contiguous()


def _average(members: Sequence[NetworkMember], images: torch.Tensor) -> torch.Tensor:
    total_weight = sum(member.weight for member in members)

    def mean(view: torch.Tensor) -> torch.Tensor:
        total = members[0].probabilities(view).mul_(members[0].weight / total_weight)
        for member in members[1:]:
            total.add_(member.probabilities(view), alpha=member.weight / total_weight)
        return total

    return average_views(mean, images, members[0].tta)
