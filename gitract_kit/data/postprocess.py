"""From probabilities to masks: thresholds, and what clean-up the settings ask for, each step a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import cv2
import numpy as np
from scipy import ndimage

from gitract_kit.data.scans import Scan
from gitract_kit.errors import SettingsError
from gitract_kit.settings import PredictionSettings

__all__ = [
    "CleanUp",
    "apply_threshold",
    "by_organ",
    "drop_far_components",
    "drop_small_areas",
    "drop_small_components",
    "fill_gaps",
    "gate_limits",
    "keep_most_probable",
    "open_slices",
]

# the competition's scans (host); the file names hold the other two axes alone
_SLICE_THICKNESS_MM = 3.0
_ALL_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)

Number = TypeVar("Number", int, float, None)


class CleanUp:
    """The steps that ``settings`` ask for, in order, for masks of ``organs``."""

    def __init__(self, settings: PredictionSettings, organs: Sequence[str]) -> None:
        self._exclusive = settings.exclusive
        self._thresholds = by_organ(settings.threshold, organs, "threshold")
        self._own_gate_thresholds = by_organ(settings.own_gate_threshold, organs, "own_gate_threshold")
        self._own_gate_min_px = by_organ(settings.own_gate_min_px, organs, "own_gate_min_px")
        self._smoothing = settings.gate_smoothing
        self._min_component_px = by_organ(settings.min_component_px, organs, "min_component_px")
        self._min_area_px = by_organ(settings.min_area_px, organs, "min_area_px")
        self._fill_gaps = settings.fill_gaps
        self._min_voxels = by_organ(settings.min_component_voxels, organs, "min_component_voxels")
        self._max_distance_mm = by_organ(settings.max_distance_mm, organs, "max_distance_mm")

    def apply(self, probabilities: np.ndarray, scan: Scan, opened: np.ndarray | None = None) -> np.ndarray:
        """Return (z, organ, y, x) bool masks of ``probabilities`` of that shape.

        ``opened`` (z, organ) bool is what a gate lets through; None lets everything.
        """
        if self._exclusive:
            probabilities = keep_most_probable(probabilities)
        masks = apply_threshold(probabilities, self._thresholds)
        if opened is not None:
            masks[~opened] = False
        if max(self._own_gate_min_px) > 0:
            sure = open_slices(
                probabilities, self._own_gate_thresholds, self._own_gate_min_px, self._smoothing
            )
            masks[~sure] = False
        drop_small_components(masks, self._min_component_px)
        drop_small_areas(masks, self._min_area_px)
        if self._fill_gaps:
            fill_gaps(masks)
        spacing_mm = (_SLICE_THICKNESS_MM, *scan.spacing_mm)
        return drop_far_components(masks, self._min_voxels, self._max_distance_mm, spacing_mm)


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


def keep_most_probable(probabilities: np.ndarray) -> np.ndarray:
    """Return ``probabilities`` (z, organ, y, x) with 0 for all but the likeliest organ of a pixel, the first of equals.

    Thresholds come after it: what one organ gets of a pixel does not depend on another's threshold.
    """
    likeliest = probabilities.argmax(axis=1)[:, None]
    return np.where(np.arange(probabilities.shape[1])[:, None, None] == likeliest, probabilities, 0)


def apply_threshold(probabilities: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Return (z, organ, y, x) bool: where ``probabilities`` of that shape reach the organ's threshold."""
    levels = np.asarray(thresholds, dtype=np.float32).reshape(1, -1, 1, 1)
    return probabilities >= levels


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


def gate_limits(
    settings: PredictionSettings, organs: Sequence[str]
) -> tuple[Sequence[float], Sequence[int], int]:
    """Return what `open_slices` reads a gate's probabilities with: thresholds, least pixels, smoothing."""
    thresholds = by_organ(settings.gate_threshold, organs, "gate_threshold")
    min_px = by_organ(settings.gate_min_px, organs, "gate_min_px")
    return thresholds, min_px, settings.gate_smoothing


def drop_small_components(masks: np.ndarray, min_px: Sequence[int]) -> np.ndarray:
    """Clear components with fewer than the organ's ``min_px`` pixels in ``masks`` (z, organ, y, x) bool, in place.

    A component is a set of pixels of one slice that touch at sides or corners. Returns ``masks``.
    """
    for organ, minimum in enumerate(min_px):
        if minimum > 1:
            for mask in masks[:, organ]:
                _drop_in_slice(mask, minimum)
    return masks


def drop_small_areas(masks: np.ndarray, min_px: Sequence[int]) -> np.ndarray:
    """Clear an organ from the slices of ``masks`` (z, organ, y, x) bool where it has under ``min_px`` pixels, in place.

    Returns ``masks``.
    """
    if max(min_px) > 1:
        masks[masks.sum(axis=(2, 3)) < np.asarray(min_px)] = False
    return masks


def fill_gaps(masks: np.ndarray) -> np.ndarray:
    """Set the voxels of ``masks`` (z, organ, y, x) bool that the slices before and after both have, in place.

    Only what was there before counts: a filled slice fills no further one. Returns ``masks``.
    """
    between = masks[:-2] & masks[2:]
    masks[1:-1] |= between
    return masks


def drop_far_components(
    masks: np.ndarray,
    min_voxels: Sequence[int],
    max_distance_mm: Sequence[float | None],
    spacing_mm: tuple[float, float, float],
) -> np.ndarray:
    """Clear whole components of a scan that are too small, or too far from the organ's largest one, in place.

    A component of ``masks`` (z, organ, y, x) bool is a set of voxels that touch, at corners too. Its distance from
    the largest is that of their nearest voxels' centres, with ``spacing_mm`` (z, y, x). Returns ``masks``.
    """
    for organ, (minimum, limit_mm) in enumerate(zip(min_voxels, max_distance_mm, strict=True)):
        if minimum > 1 or limit_mm is not None:
            _drop_in_scan(masks[:, organ], minimum, limit_mm, spacing_mm)
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


def _drop_in_scan(
    volume: np.ndarray, minimum: int, limit_mm: float | None, spacing_mm: tuple[float, float, float]
) -> None:
    part = volume[_box_of(volume)]
    if not part.size:
        return
    labels, count = ndimage.label(part, structure=_ALL_NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    drop = sizes < minimum
    if limit_mm is not None and count > 1:
        largest = int(sizes[1:].argmax()) + 1
        distances = ndimage.distance_transform_edt(labels != largest, sampling=spacing_mm)
        nearest = ndimage.minimum(distances, labels, index=np.arange(count + 1))
        drop |= nearest > limit_mm
    drop[0] = False
    part[drop[labels]] = False


def _box_of(volume: np.ndarray) -> tuple[slice, ...]:
    """The smallest box of ``volume`` (z, y, x) bool that holds all that is set; an empty one where nothing is."""
    seen_along_z = volume.any(axis=0)
    profiles = volume.any(axis=(1, 2)), seen_along_z.any(axis=1), seen_along_z.any(axis=0)
    found = [np.flatnonzero(profile) for profile in profiles]
    return tuple(slice(places[0], places[-1] + 1) if len(places) else slice(0, 0) for places in found)
