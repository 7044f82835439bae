"""Training samples: a centred window of neighbouring slices, and the masks of the middle one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gitract_kit.competition.rle import rle_decode
from gitract_kit.data.augment import create_augmentation
from gitract_kit.data.inputs import ScanInputs
from gitract_kit.data.scans import Scan, intensity_range, iterate_scans, load_cached_scan
from gitract_kit.settings import Settings

__all__ = ["SliceDataset"]

# a mapped scan holds a file open, of which a process may have 1,024 in most places, and a run has two datasets
_MOST_MAPPED = 384


class SliceDataset:
    """The slices of an index as ``(image, mask)`` for a network.

    ``image`` is (slices, H, W) float32 from 0 to 1; ``mask`` is (organs, H, W) float32, the share of each pixel that
    the organ covers. Scans are mapped from ``scan_folder`` when first used, in each worker.
    """

    def __init__(
        self, index: pd.DataFrame, scan_folder: str | Path, settings: Settings, *, augment: bool
    ) -> None:
        self._settings = settings
        self._scan_folder = Path(scan_folder)
        self._rows = {name: rows.sort_values("slice", kind="stable") for name, rows in iterate_scans(index)}
        organs = list(settings.organs)
        # a row of a table costs as much as an input's resampling
        self._rles = {name: rows[organs].to_numpy() for name, rows in self._rows.items()}
        self._samples = [
            (name, position) for name, rows in self._rows.items() for position in range(len(rows))
        ]
        # once here and not in every worker of every epoch: it reads the whole scan
        self._intensity = {
            name: intensity_range(self.scan(name).volume, settings.intensity) for name in self._rows
        }
        self._inputs: dict[str, ScanInputs] = {}
        self._augmentation = create_augmentation(settings.augmentation) if augment else None

    def __getstate__(self) -> dict[str, object]:
        # sent to a worker, a mapped scan would travel as a copy of all its bytes; the worker maps it itself
        return {**self.__dict__, "_inputs": {}}

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def scan_names(self) -> list[str]:
        """The scans, in order."""
        return list(self._rows)

    def holds_organ(self) -> np.ndarray:
        """Return (len,) bool: whether a sample's slice has any organ drawn on it."""
        return np.concatenate([(drawn != "").any(axis=1) for drawn in self._rles.values()])

    def scan_of_sample(self) -> np.ndarray:
        """Return (len,) str: the scan a sample's slice belongs to; a scan's slices follow one another in order."""
        return np.array([name for name, _ in self._samples])

    def inputs(self, name: str) -> ScanInputs:
        """Return what the network sees of the scan ``name``."""
        if name not in self._inputs:
            if len(self._inputs) >= _MOST_MAPPED:
                del self._inputs[next(iter(self._inputs))]
            self._inputs[name] = ScanInputs(self.scan(name), self._settings, self._intensity[name])
        return self._inputs[name]

    def scan(self, name: str) -> Scan:
        """Return the scan ``name``, mapped from its cache file."""
        return load_cached_scan(self._rows[name], self._scan_folder)

    def masks_true(self, name: str) -> np.ndarray:
        """Return the drawn masks of the scan ``name``, (z, organ, y, x) bool at its own size."""
        rows = self._rows[name]
        shape = int(rows.iloc[0]["height"]), int(rows.iloc[0]["width"])
        return np.stack([[rle_decode(rle, shape) for rle in drawn] for drawn in self._rles[name]])

    def __getitem__(self, sample: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return sample ``(number, seed)``: the seed makes its random changes the same in any worker."""
        number, seed = sample
        name, position = self._samples[number]
        inputs = self.inputs(name)
        image, mask = inputs.window(position), self._mask(name, position, inputs)
        if self._augmentation is None:
            return image, mask
        self._augmentation.set_random_seed(seed)
        changed = self._augmentation(image=image.transpose(1, 2, 0), mask=mask.transpose(1, 2, 0))
        image = np.ascontiguousarray(changed["image"].transpose(2, 0, 1))
        return image, np.ascontiguousarray(changed["mask"].transpose(2, 0, 1))

    def _mask(self, name: str, position: int, inputs: ScanInputs) -> np.ndarray:
        geometry = inputs.geometry
        drawn = self._rles[name][position]
        return np.stack([geometry.forward_mask(rle_decode(rle, geometry.source)) for rle in drawn])
