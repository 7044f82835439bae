"""The one way from a slice's own grid to the network's input, and its exact inverse.

A slice is scaled (keeping its aspect ratio) and padded in the middle of the input; nothing is ever cut off. Both
directions use the half-pixel-centre convention, so a point keeps its place there and back. The inverse is
meant for probabilities: a resized binary mask has lost what the threshold needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gitract_kit.settings import GeometrySettings

__all__ = ["Geometry", "create_geometry"]


@dataclass(frozen=True)
class Geometry:
    """Maps slices of one size to the network's input and back."""

    source: tuple[int, int]
    """(height, width) of the slice, in pixels."""
    scaled: tuple[int, int]
    """(height, width) of the slice inside the input."""
    target: tuple[int, int]
    """(height, width) of the network's input."""

    @property
    def offset(self) -> tuple[int, int]:
        """(rows above, columns left of) the scaled slice in the input."""
        return (self.target[0] - self.scaled[0]) // 2, (self.target[1] - self.scaled[1]) // 2

    def forward(self, image: np.ndarray) -> np.ndarray:
        """Return ``image`` (h, w) on the input's grid, of the same dtype, zero where it was padded.

        Shrinking averages over the area that a pixel covers, enlarging is bilinear.
        """
        return self._place(self._resize(image, self.scaled))

    def forward_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return ``mask`` (h, w) bool on the input's grid as float32: the share of each pixel that it covers."""
        if not mask.any():
            return np.zeros(self.target, dtype=np.float32)
        return self._place(self._resize(mask.astype(np.float32), self.scaled))

    def inverse(self, probabilities: np.ndarray) -> np.ndarray:
        """Return ``probabilities`` (..., H, W) float on the slice's own grid: (..., h, w) of the same dtype."""
        top, left = self.offset
        inner = probabilities[..., top : top + self.scaled[0], left : left + self.scaled[1]]
        if self.scaled == self.source:
            return np.ascontiguousarray(inner)
        planes = inner.reshape(-1, *self.scaled)
        restored = np.empty((len(planes), *self.source), dtype=np.float32)
        for plane, out in zip(planes, restored, strict=True):
            self._resize(np.ascontiguousarray(plane, dtype=np.float32), self.source, out)
        restored = restored.astype(probabilities.dtype, copy=False)
        return restored.reshape(*probabilities.shape[:-2], *self.source)

    def _place(self, scaled: np.ndarray) -> np.ndarray:
        if self.scaled == self.target:
            return scaled
        top, left = self.offset
        placed = np.zeros(self.target, dtype=scaled.dtype)
        placed[top : top + self.scaled[0], left : left + self.scaled[1]] = scaled
        return placed

    def _resize(self, image: np.ndarray, shape: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
        if image.shape == shape:
            return image
        way = cv2.INTER_AREA if shape[0] < image.shape[0] else cv2.INTER_LINEAR
        return cv2.resize(image, shape[::-1], dst=out, interpolation=way)


def create_geometry(
    shape: tuple[int, int], spacing_mm: tuple[float, float], settings: GeometrySettings
) -> Geometry:
    """Return the geometry for slices of ``shape`` (height, width) with ``spacing_mm`` (y, x) between pixels.

    With ``settings.spacing_mm`` the slice is resampled to that spacing, without it to fill the input; a slice that
    would not fit is shrunk until it does. Unequal spacing in y and x is brought to equal.
    """
    extent_mm = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
    target = settings.height, settings.width
    fit_mm = max(extent_mm[0] / target[0], extent_mm[1] / target[1])
    pixel_mm = max(settings.spacing_mm or 0.0, fit_mm)
    scaled = tuple(
        min(limit, max(1, round(extent / pixel_mm))) for extent, limit in zip(extent_mm, target, strict=True)
    )
    return Geometry(source=tuple(shape), scaled=scaled, target=target)
