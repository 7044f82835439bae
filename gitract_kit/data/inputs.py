"""What a network sees of a scan: the same for training and for inference, in one place."""

from __future__ import annotations

import numpy as np

from gitract_kit.data.geometry import Geometry, create_geometry
from gitract_kit.data.scans import Scan, intensity_range
from gitract_kit.data.window import window_positions
from gitract_kit.settings import Settings

__all__ = ["ScanInputs"]


class ScanInputs:
    """The inputs of one scan's slices, made when asked for.

    ``intensity`` may be given where it is already known: the two values of `intensity_range`.
    """

    def __init__(self, scan: Scan, settings: Settings, intensity: tuple[float, float] | None = None) -> None:
        self._volume = scan.volume
        self.intensity = intensity or intensity_range(scan.volume, settings.intensity)
        """The scan's values that become 0 and 1."""
        self.geometry: Geometry = create_geometry(scan.shape, scan.spacing_mm, settings.geometry)
        self.positions = window_positions(scan.slice_numbers, settings.window)

    def __len__(self) -> int:
        return len(self.positions)

    def plane(self, position: int) -> np.ndarray:
        """Return the slice at ``position`` of the scan as (H, W) float32, 0 to 1, on the network's grid."""
        low, high = self.intensity
        scaled = (self._volume[position].astype(np.float32) - low) / (high - low)
        return self.geometry.forward(np.clip(scaled, 0.0, 1.0))

    def window(self, position: int) -> np.ndarray:
        """Return the window centred on ``position`` as (slices, H, W) float32."""
        planes = {neighbour: self.plane(neighbour) for neighbour in set(self.positions[position].tolist())}
        return np.stack([planes[neighbour] for neighbour in self.positions[position].tolist()])

    def planes(self) -> np.ndarray:
        """Return the whole scan as (z, H, W) float32; ``planes[inputs.positions[i]]`` is window ``i``."""
        return np.stack([self.plane(position) for position in range(len(self))])
