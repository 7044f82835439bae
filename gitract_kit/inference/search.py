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
from gitract_kit.data.held_out import opened_slices
from gitract_kit.data.oof import HeldOutScan, weighted_mean
from gitract_kit.data.postprocess import CleanUp, by_organ, gate_limits, keep_most_probable, open_slices
from gitract_kit.data.scans import Scan
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
_MIN_COMPONENT_VOXELS = (0, 500)
# threshold and least pixels; at the mask's own threshold a gate is a least area, which is why that is not tried too
_OWN_GATES = ((0.5, 0), (0.5, 50), (0.8, 10), (0.8, 50))
_GATES = ((0.5, 1), (0.3, 10), (0.5, 50), (0.8, 10))


@dataclass(frozen=True, order=True)
class OrganSettings:
    """What the search decides for one organ; the fields of `PredictionSettings` of the same names."""

    threshold: float
    min_component_px: int
    min_area_px: int
    min_component_voxels: int
    own_gate_threshold: float = 0.5
    own_gate_min_px: int = 0
    gate_threshold: float = 0.5
    gate_min_px: int = 1

    @property
    def gates(self) -> tuple[float, int, float, int]:
        """The limits of both gates, as one value to compare."""
        return self.own_gate_threshold, self.own_gate_min_px, self.gate_threshold, self.gate_min_px


_FIELDS = tuple(one.name for one in dataclasses.fields(OrganSettings))


def create_grid(
    prediction: PredictionSettings, organs: Sequence[str], *, gated: bool = False
) -> list[OrganSettings]:
    """Return the settings to try for each organ, those that ``prediction`` has of any organ among them.

    ``gated`` tries settings of the gate that runs of their own are, else those of the segmenters' gate to themselves.
    """
    own = [dataclasses.astuple(one) for one in settings_of(prediction, organs)]
    thresholds, component_px, area_px, voxels = (
        set(axis) for axis in zip(*(one[:4] for one in own), strict=True)
    )
    own_gates, gates = {one[4:6] for one in own}, {one[6:] for one in own}
    choices = [
        OrganSettings(*choice, *own_gate, *gate)
        for *choice, own_gate, gate in itertools.product(
            thresholds.union(_THRESHOLDS),
            component_px.union(_MIN_COMPONENT_PX),
            area_px,
            voxels.union(_MIN_COMPONENT_VOXELS),
            own_gates if gated else own_gates.union(_OWN_GATES),
            gates.union(_GATES) if gated else gates,
        )
    ]
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
    if prediction.exclusive:
        held_out = _settle(held_out, weights)
    sums = np.empty((len(organs), len(grid), 4))
    lowest = min(min(one.threshold, one.own_gate_threshold) for one in grid)
    gate = held_out.gate_mean()
    for k, organ in enumerate(organs):
        region = _Region(held_out, k, lowest, prediction.gate_smoothing)
        probabilities = weighted_mean(region.probabilities, weights)
        own = _for_organ(prediction, organs, k)
        opened = {}
        for number, one in enumerate(grid):
            chosen = dataclasses.replace(own, **dataclasses.asdict(one))
            limits = gate_limits(chosen, [organ])
            if gate is not None and limits not in opened:
                opened[limits] = open_slices(gate[:, k : k + 1], *limits)
            sums[k, number] = region.measure(probabilities, CleanUp(chosen, [organ]), opened.get(limits))
    return sums


def measure_weights(
    held_out: HeldOutScan,
    points: Sequence[Sequence[float]],
    prediction: PredictionSettings,
    organs: Sequence[str],
) -> np.ndarray:
    """Return the sums (organ, point, 4) of one scan under every weighting of the runs."""
    if prediction.exclusive:
        alone = dataclasses.replace(prediction, exclusive=False)
        settled = [measure_weights(_settle(held_out, point), [point], alone, organs) for point in points]
        return np.concatenate(settled, axis=1)
    sums = np.empty((len(organs), len(points), 4))
    opened = opened_slices(held_out, prediction, organs)
    for k, (organ, one) in enumerate(zip(organs, settings_of(prediction, organs), strict=True)):
        lowest = min(one.threshold, one.own_gate_threshold)
        region = _Region(held_out, k, lowest, prediction.gate_smoothing)
        clean_up = CleanUp(_for_organ(prediction, organs, k), [organ])
        let_through = None if opened is None else opened[:, k : k + 1]
        sums[k] = [
            region.measure(weighted_mean(region.probabilities, point), clean_up, let_through)
            for point in points
        ]
    return sums


def _settle(held_out: HeldOutScan, weights: Sequence[float]) -> HeldOutScan:
    """``held_out`` with 0 in every run where an organ is not the likeliest of the mean; each then stands for itself."""
    lost = keep_most_probable(held_out.mean(weights)) == 0
    return dataclasses.replace(
        held_out, probabilities=tuple(np.where(lost, 0, one) for one in held_out.probabilities)
    )


class _Region:
    """The part of a scan where an organ is, or where something reaches a threshold from ``lowest`` up.

    It has as many slices more at both ends as ``smoothing`` over slices may look at.
    """

    def __init__(self, held_out: HeldOutScan, organ: int, lowest: float, smoothing: int) -> None:
        mask_true = held_out.masks_true[:, organ]
        # a mean reaches no level that none of its parts reaches; one step lower, against rounding
        level = max(int(np.floor(lowest * 255)), 1)
        probabilities = [one[:, organ] for one in held_out.probabilities]
        slices, *plane = _box_around(mask_true, *(one >= level for one in probabilities))
        beside = smoothing // 2
        box = (slice(max(slices.start - beside, 0), slices.stop + beside), *plane)
        self._extent = mask_true.shape
        self._mask_true = np.ascontiguousarray(mask_true[box])
        self._n_true = self._mask_true.sum(axis=(1, 2))
        self.probabilities = [np.ascontiguousarray(one[box]) for one in probabilities]
        self._slices = box[0]
        whole = held_out.scan
        self._scan = Scan(
            whole.name, whole.ids[box[0]], whole.slice_numbers[box[0]], whole.volume[box], whole.spacing_mm
        )
        self._measured: dict[bytes, tuple[float, ...]] = {}

    def measure(
        self, probabilities: np.ndarray, clean_up: CleanUp, opened: np.ndarray | None
    ) -> tuple[float, ...]:
        """Return dice_sum, dice_rows, hausdorff_sum and volumes of the masks that ``clean_up`` makes.

        ``opened`` (z, 1) bool, of the whole scan, is what a gate lets through; None lets everything.
        """
        opened = None if opened is None else opened[self._slices]
        mask = clean_up.apply(probabilities[:, None], self._scan, opened)[:, 0]
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
