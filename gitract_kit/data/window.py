"""The one definition of a window of neighbouring slices."""

from __future__ import annotations

import numpy as np

from gitract_kit.settings import WindowSettings

__all__ = ["window_positions"]


def window_positions(slice_numbers: np.ndarray, settings: WindowSettings) -> np.ndarray:
    """Return (depth, window.slices) int64: for each slice of a scan, the positions that form its window.

    ``slice_numbers`` (depth,) are the ascending numbers of the scan's slices, as in their file names. The window is
    centred: for 5 slices with stride 2 it is n-4, n-2, n, n+2, n+4. A number that the scan does not hold is replaced
    by the nearest one that it does, of two equally near the one closer to the centre: past the scan's ends that is
    its first or last slice, and no window reaches into another scan.
    """
    numbers = np.asarray(slice_numbers, dtype=np.int64)
    offsets = settings.stride * (np.arange(settings.slices) - settings.slices // 2)
    wanted = numbers[:, None] + offsets[None, :]
    above = np.searchsorted(numbers, wanted).clip(0, len(numbers) - 1)
    below = (above - 1).clip(0)
    distance_above, distance_below = np.abs(numbers[above] - wanted), np.abs(numbers[below] - wanted)
    prefers_below = (distance_below < distance_above) | ((distance_below == distance_above) & (offsets > 0))
    return np.where(prefers_below, below, above)
