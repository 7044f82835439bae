"""What a scan scores under every choice of settings, or of weights: measured once, so that a search is arithmetic.

For each organ and choice the four sums of `score_sums` are kept. The Dice rows and the distance of one organ do not
depend on another's settings, so organs are measured one by one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gitract_kit.competition.hausdorff import hausdorff_within
from gitract_kit.data.scans import Scan
from gitract_kit.inference.oof import HeldOutScan, weighted_mean
from gitract_kit.inference.postprocess import CleanUp, by_organ
from gitract_kit.settings import PredictionSettings

__all__ = [
    "OrganSettings",
    "create_grid",
    "measure_settings",
    "measure_weights",
    "settings_by_field",
    "settings_of",
]

_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(4, 15))  # 0.2 to 0.7
_MIN_COMPONENT_PX = (0, 25, 100)
_MIN_AREA_PX = (0, 100)
_MIN_COMPONENT_VOXELS = (0, 500)
_FIELDS = ("threshold", "min_component_px", "min_area_px", "min_component_voxels")


@dataclass(frozen=True, order=True)
class OrganSettings:
    """What the search decides for one organ; the fields of `PredictionSettings` of the same names."""

    threshold: float
    min_component_px: int
    min_area_px: int
    min_component_voxels: int


def create_grid(prediction: PredictionSettings, organs: Sequence[str]) -> list[OrganSettings]:
    """Return the settings to try for each organ, those that ``prediction`` has of any organ among them."""
    own = settings_of(prediction, organs)
    axes = zip(
        (_THRESHOLDS, _MIN_COMPONENT_PX, _MIN_AREA_PX, _MIN_COMPONENT_VOXELS),
        zip(*(dataclasses.astuple(one) for one in own), strict=True),
        strict=True,
    )
    choices = [OrganSettings(*values) for values in itertools.product(*({*axis, *its} for axis, its in axes))]
    # of choices that score the same the first is taken: the middle threshold, and the least clean-up
    return sorted(choices, key=lambda one: (abs(one.threshold - 0.5), one))


def settings_of(prediction: PredictionSettings, organs: Sequence[str]) -> list[OrganSettings]:
    """Return what ``prediction`` has of each organ, in order."""
    columns = [by_organ(getattr(prediction, name), organs, name) for name in _FIELDS]
    return [OrganSettings(*values) for values in zip(*columns, strict=True)]


def settings_by_field(
    settings: Sequence[OrganSettings], organs: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the settings as `PredictionSettings` takes them: a mapping by organ for each field."""
    return {
        name: {organ: getattr(one, name) for organ, one in zip(organs, settings, strict=True)}
        for name in _FIELDS
    }


def measure_settings(
    held_out: HeldOutScan,
    weights: Sequence[float],
    prediction: PredictionSettings,
    organs: Sequence[str],
    grid: Sequence[OrganSettings],
) -> np.ndarray:
    """Return the sums (organ, choice, 4) of one scan under every choice of ``grid``.

    The other steps of the clean-up are those of ``prediction``.
    """
    sums = np.empty((len(organs), len(grid), 4))
    lowest = min(one.threshold for one in grid)
    for k, organ in enumerate(organs):
        region = _Region(held_out, k, lowest)
        probabilities = weighted_mean(region.probabilities, weights)
        own = _for_organ(prediction, organs, k)
        for number, one in enumerate(grid):
            clean_up = CleanUp(dataclasses.replace(own, **dataclasses.asdict(one)), [organ])
            sums[k, number] = region.measure(probabilities, clean_up)
    return sums


def measure_weights(
    held_out: HeldOutScan,
    points: Sequence[Sequence[float]],
    prediction: PredictionSettings,
    organs: Sequence[str],
) -> np.ndarray:
    """Return the sums (organ, point, 4) of one scan under every weighting of the runs."""
    sums = np.empty((len(organs), len(points), 4))
    thresholds = by_organ(prediction.threshold, organs, "threshold")
    for k, organ in enumerate(organs):
        region = _Region(held_out, k, thresholds[k])
        clean_up = CleanUp(_for_organ(prediction, organs, k), [organ])
        sums[k] = [region.measure(weighted_mean(region.probabilities, point), clean_up) for point in points]
    return sums


class _Region:
    """The part of a scan where an organ is, or might be drawn at a threshold from ``lowest`` up."""

    def __init__(self, held_out: HeldOutScan, organ: int, lowest: float) -> None:
        mask_true = held_out.masks_true[:, organ]
        # a mean reaches no level that none of its parts reaches; one step lower, against rounding
        level = max(int(np.floor(lowest * 255)), 1)
        probabilities = [one[:, organ] for one in held_out.probabilities]
        box = _box_around(mask_true, *(one >= level for one in probabilities))
        self._extent = mask_true.shape
        self._mask_true = np.ascontiguousarray(mask_true[box])
        self._n_true = self._mask_true.sum(axis=(1, 2))
        self.probabilities = [np.ascontiguousarray(one[box]) for one in probabilities]
        whole = held_out.scan
        self._scan = Scan(
            whole.name, whole.ids[box[0]], whole.slice_numbers[box[0]], whole.volume[box], whole.spacing_mm
        )
        self._measured: dict[bytes, tuple[float, ...]] = {}

    def measure(self, probabilities: np.ndarray, clean_up: CleanUp) -> tuple[float, ...]:
        """Return dice_sum, dice_rows, hausdorff_sum and volumes of the masks that ``clean_up`` makes."""
        mask = clean_up.apply(probabilities[:, None], self._scan)[:, 0]
        # most neighbours in a grid make the same mask, and the distance is what costs
        key = np.packbits(mask).tobytes()
        if key not in self._measured:
            self._measured[key] = self._compare(np.ascontiguousarray(mask))
        return self._measured[key]

    def _compare(self, mask: np.ndarray) -> tuple[float, ...]:
        both = (mask & self._mask_true).sum(axis=(1, 2))
        either = mask.sum(axis=(1, 2)) + self._n_true
        dice_sum = float((2.0 * both / np.maximum(either, 1)).sum())
        distance = hausdorff_within(self._mask_true, mask, self._extent)
        counts = not np.isnan(distance)
        return dice_sum, float(np.count_nonzero(either)), distance if counts else 0.0, float(counts)


def _for_organ(prediction: PredictionSettings, organs: Sequence[str], k: int) -> PredictionSettings:
    """``prediction`` with the values of organ ``k`` alone."""
    names = (*_FIELDS, "max_distance_mm")
    values = {name: by_organ(getattr(prediction, name), organs, name)[k] for name in names}
    return dataclasses.replace(prediction, **values)


def _box_around(*masks: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box that holds all masks; one voxel where they are empty."""
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 1))
    return tuple(box)
