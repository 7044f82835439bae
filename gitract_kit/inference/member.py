"""Members: whatever turns a scan into probabilities, and the one that is a 2D or 2.5D network."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
import torch

from gitract_kit.data.inputs import ScanInputs
from gitract_kit.data.scans import Scan
from gitract_kit.errors import SettingsError
from gitract_kit.inference.tta import average_views, count_views
from gitract_kit.models.forward import autocast, select_precision
from gitract_kit.settings import Settings

__all__ = ["Member", "NetworkMember"]

# scans are predicted side by side, and two networks at once would only take each other's memory and cores
_NETWORK_LOCK = threading.Lock()


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
        """Return (z, organ, y, x) float16 or float32 probabilities at the scan's own size.

        ``wanted`` (z,) bool names the slices that matter; the others may be left 0.
        """
        ...


class NetworkMember:
    """A network over a window of neighbouring slices as a member of an ensemble.

    ``settings`` are those the network was trained with: window, geometry, intensity and organs. ``tta`` and
    ``batch_size`` default to ``settings.prediction``. On a GPU it runs in bfloat16, or float16 where the GPU is
    older than Ampere. Where a batch does not fit the GPU's memory, the batch is halved for good; one slice that
    does not fit ends in torch's own error.
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
        if self.batch_size < 1:
            raise SettingsError(f"prediction.batch_size is {self.batch_size}; it must be 1 or more")
        self.device = torch.device(device)
        self.passes = count_views(self.tta)
        # measured on 2 CPU cores: a third less time than the default layout; GPUs with tensor cores want it too
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)

    def without_tta(self) -> NetworkMember:
        """Return this member with one forward pass a slice; the network is shared."""
        return NetworkMember(
            self.network,
            self.settings,
            self.device,
            "none",
            self.batch_size,
            name=self.name,
            role=self.role,
            weight=self.weight,
            group=self.group,
        )

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        """Return (z, organ, y, x) float16 probabilities at the scan's own size.

        Of the slices that are not ``wanted`` (z,) they are 0: those only feed their neighbours' windows.
        """
        inputs = ScanInputs(scan, self.settings)
        planes = torch.from_numpy(inputs.planes()).to(self.device)
        windows = torch.from_numpy(inputs.positions).to(self.device)
        probabilities = np.zeros((len(inputs), len(self.organs), *scan.shape), dtype=np.float16)
        slices = np.arange(len(inputs)) if wanted is None else np.flatnonzero(wanted)
        while len(slices):
            batch = slices[: self.batch_size]
            try:
                on_grid = self._forward(planes[windows[torch.from_numpy(batch)]])
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                # of what was tried: another scan's thread may have halved it meanwhile
                self.batch_size = min(self.batch_size, (len(batch) + 1) // 2)
                continue
            probabilities[batch] = inputs.geometry.inverse(on_grid)
            slices = slices[len(batch) :]
        return probabilities

    @torch.inference_mode()
    def _forward(self, windows: torch.Tensor) -> np.ndarray:
        """(b, slices, H, W) float32 windows to (b, organ, H, W) float32 probabilities."""
        windows = windows.contiguous(memory_format=torch.channels_last)
        with _NETWORK_LOCK:
            return average_views(self._probabilities, windows, self.tta).cpu().numpy()

    def _probabilities(self, images: torch.Tensor) -> torch.Tensor:
        with autocast(self.device, select_precision(self.device)):
            logits = self.network(images)
        return logits.float().sigmoid_()
