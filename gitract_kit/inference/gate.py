"""The slice gate: which organs a slice may hold at all, decided before they are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gitract_kit.data.scans import Scan
from gitract_kit.inference.ensemble import Ensemble
from gitract_kit.inference.postprocess import by_organ, open_slices
from gitract_kit.settings import PredictionSettings

__all__ = ["Gate", "gate_limits"]


class Gate:
    """An ensemble of gate members and the settings that read it."""

    def __init__(self, ensemble: Ensemble, settings: PredictionSettings) -> None:
        self._ensemble = ensemble
        self._limits = gate_limits(settings, ensemble.organs)

    def open(self, scan: Scan) -> np.ndarray:
        """Return (z, organ) bool: the slices on which each organ goes on."""
        return open_slices(self._ensemble.predict(scan), *self._limits)


def gate_limits(
    settings: PredictionSettings, organs: Sequence[str]
) -> tuple[Sequence[float], Sequence[int], int]:
    """Return what `open_slices` reads a gate's probabilities with: thresholds, least pixels, smoothing."""
    thresholds = by_organ(settings.gate_threshold, organs, "gate_threshold")
    min_px = by_organ(settings.gate_min_px, organs, "gate_min_px")
    return thresholds, min_px, settings.gate_smoothing
