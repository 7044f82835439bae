"""The slice gate: which organs a slice may hold at all, decided before they are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from gitract_kit.data.scans import Scan
from gitract_kit.inference.ensemble import Ensemble
from gitract_kit.inference.postprocess import apply_threshold, by_organ
from gitract_kit.settings import PredictionSettings

__all__ = ["Gate", "open_slices"]


class Gate:
    """An ensemble of gate members and the settings that read it."""

    def __init__(self, ensemble: Ensemble, settings: PredictionSettings) -> None:
        self._ensemble = ensemble
        self._thresholds = by_organ(settings.gate_threshold, ensemble.organs, "gate_threshold")
        self._min_px = by_organ(settings.gate_min_px, ensemble.organs, "gate_min_px")
        self._smoothing = settings.gate_smoothing

    def open(self, scan: Scan) -> np.ndarray:
        """Return (z, organ) bool: the slices on which each organ goes on."""
        return open_slices(self._ensemble.predict(scan), self._thresholds, self._min_px, self._smoothing)


def open_slices(
    probabilities: np.ndarray, thresholds: Sequence[float], min_px: Sequence[int], smoothing: int = 1
) -> np.ndarray:
    """Return (z, organ) bool: where enough pixels of ``probabilities`` (z, organ, y, x) reach the organ's threshold.

    The pixel counts are averaged over ``smoothing`` slices along z; past the scan's ends its outermost slices count.
    """
    counts = apply_threshold(probabilities, thresholds).sum(axis=(2, 3), dtype=np.float64)
    if smoothing > 1:
        counts = ndimage.uniform_filter1d(counts, smoothing, axis=0, mode="nearest")
    # a running mean of whole numbers is not quite one
    return counts >= np.asarray(min_px) - 1e-6
