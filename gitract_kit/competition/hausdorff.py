"""The point-set Hausdorff distance of two volumes, exact without looking at all pairs of voxels.

Three facts make it quick. A voxel of both masks has distance 0. The voxel of a mask that is nearest to a voxel
outside lies on the mask's surface: from any other, one step towards that voxel stays inside and is closer. And
only the farthest voxel counts: once one is known to be so far away, all that have some voxel of the other mask
within that distance are out. The ways from a few voxels to the other mask are tried on all the others, and what
is left is asked of a k-d tree.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.spatial import KDTree

from gitract_kit.errors import InputError

__all__ = ["as_masks", "hausdorff_distance", "hausdorff_within"]

_Box = tuple[slice, slice, slice]
_NO_WAYS = np.empty((0, 3), dtype=np.int64)

_SAMPLE = 192  # voxels whose distances set the bar, and whose ways to the other mask are tried on the others
_FEW = 2_000  # voxels that the tree answers for sooner than they are thinned out
_MANY = 2**18  # voxels that are first thinned out by what is known of their neighbours
_RUN = 64  # of them that share one answer
_LEAF = 64  # few questions are asked of each tree: cheap to build beats quick to ask


def hausdorff_distance(mask_true: np.ndarray, mask_pred: np.ndarray) -> float:
    """Normalised Hausdorff distance of two volumes, 0 to 1; NaN where both are empty, 1.0 where one is.

    The masks are ``(z, y, x)`` of one shape, bool or integers 0 and 1. Voxel positions are divided by the length of
    their axis, and the distance by sqrt(3), that of opposite corners. It is the distance of the sets of all voxels
    (scipy's ``directed_hausdorff``, the larger of both ways), as the competition's page has it, not of the surfaces:
    the two differ where a mask has holes. An :class:`InputError` names shapes or values that do not fit.
    """
    mask_true, mask_pred = as_masks(mask_true, mask_pred, dimensions=(3,))
    return hausdorff_within(mask_true, mask_pred, mask_true.shape)


def hausdorff_within(mask_true: np.ndarray, mask_pred: np.ndarray, extent: tuple[int, ...]) -> float:
    """As :func:`hausdorff_distance`, for contiguous bool masks cut from larger volumes of ``extent`` voxels an axis."""
    box_true, box_pred = _bounding_box(mask_true), _bounding_box(mask_pred)
    if box_true is None or box_pred is None:
        return float("nan") if box_true is box_pred else 1.0
    steps = 1.0 / np.array(extent)
    distance, ways = _Target(mask_pred, box_pred, steps).farthest_of(mask_true, box_true, 0.0, _NO_WAYS)
    distance, _ = _Target(mask_true, box_true, steps).farthest_of(mask_pred, box_pred, distance, -ways)
    return distance / 3**0.5


def as_masks(
    mask_true: np.ndarray, mask_pred: np.ndarray, dimensions: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as contiguous bool arrays of one shape, or an :class:`InputError`."""
    true, pred = _as_mask(mask_true, "mask_true", dimensions), _as_mask(mask_pred, "mask_pred", dimensions)
    if true.shape != pred.shape:
        raise InputError(
            f"found mask_true {true.shape} and mask_pred {pred.shape}, expected one shape: "
            "bring the prediction to the scan's own size first"
        )
    return true, pred


def _as_mask(mask: np.ndarray, name: str, dimensions: tuple[int, ...]) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.ndim not in dimensions:
        axes = " or ".join({2: "(y, x)", 3: "(z, y, x)"}[n] for n in dimensions)
        raise InputError(
            f"found {name} of shape {mask.shape}, expected {axes}: stack a scan's slices along z"
        )
    if mask.dtype != bool and not (np.issubdtype(mask.dtype, np.integer) and np.isin(mask, (0, 1)).all()):
        raise InputError(
            f"found {mask.dtype} values other than bool or integers 0 and 1 in {name}: threshold it first"
        )
    return np.ascontiguousarray(mask, dtype=bool)


def _bounding_box(mask: np.ndarray) -> _Box | None:
    """The smallest box around the mask; None where it is empty."""
    filled = mask.any(axis=(1, 2)).nonzero()[0]
    if not filled.size:
        return None
    z = slice(int(filled[0]), int(filled[-1]) + 1)
    footprint = mask[z].any(axis=0)
    rows, columns = footprint.any(axis=1).nonzero()[0], footprint.any(axis=0).nonzero()[0]
    return z, slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


class _Target:
    """A mask to measure distances to.

    Voxels are flat places in its volume. A way is an offset ``(z, y, x)``, none longer than the distance that
    is known by then: a voxel whose way ends in the mask cannot be farther, and need not be asked about.
    """

    def __init__(self, mask: np.ndarray, box: _Box, steps: np.ndarray) -> None:
        self._mask, self._box, self._steps = mask, box, steps

    def farthest_of(
        self, source: np.ndarray, box: _Box, at_least: float, ways: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """The largest distance of a voxel of ``source``, or ``at_least`` where that is larger, and ways so long."""
        voxels = _places_of(source[box] & ~self._mask[box], box, source.shape)
        if voxels.size <= _MANY:
            voxels = self._beyond(ways, voxels, box)
        if not voxels.size:
            return at_least, ways
        distances, ways = self._ask(voxels[:: voxels.size // _SAMPLE + 1])
        at_least = max(at_least, float(distances.max()))
        ways = ways[np.argsort(-distances, kind="stable")]
        if voxels.size > _MANY:
            voxels, at_least = self._thin_out(voxels, at_least)
        distances, last_ways = self._ask(self._beyond(ways, voxels, box))
        # the very longest first: it is the way back that the other mask's voxels most need
        ways = np.concatenate([last_ways[distances.argsort()[-1:]], ways])
        return float(distances.max(initial=at_least)), ways

    def _beyond(self, ways: np.ndarray, voxels: np.ndarray, box: _Box) -> np.ndarray:
        """``voxels``, all of them in ``box``, without those that one of the ways leads into the mask."""
        if voxels.size < _FEW:
            return voxels
        # a way that leads out of the volume is cut short, and is within the distance all the more
        room_before = [-side.start for side in box]
        room_behind = [length - side.stop for side, length in zip(box, self._mask.shape, strict=True)]
        strides = (self._mask.shape[1] * self._mask.shape[2], self._mask.shape[2], 1)
        flat_mask = self._mask.ravel()
        for offset in dict.fromkeys((np.clip(ways, room_before, room_behind) @ strides).tolist()):
            voxels = voxels[~flat_mask[voxels + offset]]
        return voxels

    def _thin_out(self, voxels: np.ndarray, at_least: float) -> tuple[np.ndarray, float]:
        """``voxels`` without the neighbours of those that are nearer than ``at_least`` by more than their spread.

        Also the distance known by then. In pieces, so that millions of voxels need no memory to speak of.
        """
        kept = []
        for first in range(0, voxels.size, _MANY):
            piece = voxels[first : first + _MANY]
            middles = np.minimum(np.arange(_RUN // 2, piece.size + _RUN // 2, _RUN), piece.size - 1)
            runs = np.minimum(np.arange(piece.size) // _RUN, middles.size - 1)
            positions = self._coordinates(piece) * self._steps
            spread = np.linalg.norm(positions - positions[middles[runs]], axis=1)
            distances, _ = self._ask(piece[middles])
            at_least = max(at_least, float(distances.max()))
            kept.append(piece[distances[runs] + spread > at_least])
        return np.concatenate(kept), at_least

    def _ask(self, voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each voxel to the mask, and its way there."""
        coordinates = self._coordinates(voxels)
        distances, nearest = self._tree.query(coordinates * self._steps)
        return distances, self._surface[nearest] - coordinates

    @cached_property
    def _surface(self) -> np.ndarray:
        return self._coordinates(_surface_of(self._mask, self._box))

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self._surface * self._steps, leafsize=_LEAF, balanced_tree=False, compact_nodes=False)

    def _coordinates(self, voxels: np.ndarray) -> np.ndarray:
        return np.column_stack(np.unravel_index(voxels, self._mask.shape))


def _surface_of(mask: np.ndarray, box: _Box) -> np.ndarray:
    """Places of the voxels that have a neighbour outside the mask or touch ``box``, which holds all of the mask."""
    crop = mask[box]
    inside = np.zeros_like(crop)
    core = (slice(1, -1),) * 3
    inside[core] = True
    for axis in range(3):
        for neighbour in (slice(None, -2), slice(2, None)):
            shifted = [slice(1, -1)] * 3
            shifted[axis] = neighbour
            inside[core] &= crop[tuple(shifted)]
    return _places_of(crop & ~inside, box, mask.shape)


def _places_of(crop: np.ndarray, box: _Box, shape: tuple[int, ...]) -> np.ndarray:
    """Flat places, in a volume of ``shape``, of the voxels of ``crop``, which is cut from there at ``box``."""
    z, y, x = np.unravel_index(np.flatnonzero(crop), crop.shape)
    return ((z + box[0].start) * shape[1] + y + box[1].start) * shape[2] + x + box[2].start
