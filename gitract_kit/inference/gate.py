"""The slice gate: which organs a slice may hold at all, decided before they are drawn."""

from __future__ import annotations

import numpy as np

from gitract_kit.data.postprocess import gate_limits, open_slices
from gitract_kit.data.scans import Scan
from gitract_kit.inference.ensemble import Ensemble
from gitract_kit.settings import PredictionSettings

__all__ = ["Gate"]


class Gate:
    """An ensemble of gate members and the settings that read it."""

    def __init__(self, ensemble: Ensemble, settings: PredictionSettings) -> None:
        self._ensemble = ensemble
        self._limits = gate_limits(settings, ensemble.organs)

    def open(self, scan: Scan) -> np.ndarray:
        """Return (z, organ) bool: the slices on which each organ goes on."""
        return open_slices(self._ensemble.predict(scan), *self._limits)
