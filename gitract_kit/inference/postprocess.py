"""From probabilities to masks: a threshold an organ, and small components dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import cv2
import numpy as np

from gitract_kit.errors import SettingsError

__all__ = ["apply_threshold", "by_organ", "drop_small_components"]

Number = TypeVar("Number", int, float)


def by_organ(setting: Number | Mapping[str, Number], organs: Sequence[str], name: str) -> tuple[Number, ...]:
    """Return the value of ``setting`` for each organ, in order; ``name`` is what an error calls the setting."""
    if not isinstance(setting, Mapping):
        return (setting,) * len(organs)
    if set(setting) != set(organs):
        raise SettingsError(
            f"prediction.{name} names {', '.join(sorted(setting)) or 'no organ'}; "
            f"expected one value for each of {', '.join(organs)}, or one number for all"
        )
    return tuple(setting[organ] for organ in organs)


def apply_threshold(probabilities: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Return (z, organ, y, x) bool: where ``probabilities`` of that shape reach the organ's threshold."""
    levels = np.asarray(thresholds, dtype=np.float32).reshape(1, -1, 1, 1)
    return probabilities >= levels


def drop_small_components(masks: np.ndarray, min_px: Sequence[int]) -> np.ndarray:
    """Clear components with fewer than the organ's ``min_px`` pixels in ``masks`` (z, organ, y, x) bool, in place.

    A component is a set of pixels of one slice that touch at sides or corners. Returns ``masks``.
    """
    for organ, minimum in enumerate(min_px):
        if minimum > 1:
            for mask in masks[:, organ]:
                _drop_in_slice(mask, minimum)
    return masks


def _drop_in_slice(mask: np.ndarray, minimum: int) -> None:
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return
    part = mask[rows[0] : rows[-1] + 1]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(part.view(np.uint8), connectivity=8)
    small = stats[:, cv2.CC_STAT_AREA] < minimum
    # label 0 is the background
    small[0] = False
    if small.any():
        part[small[labels]] = False
