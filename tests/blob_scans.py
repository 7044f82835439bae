"""Tiny competition folders with a bright ellipse as the only organ to find, and members that find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from gitract_kit.competition.layout import ORGANS
from gitract_kit.data.scans import Scan
from gitract_kit.inference.member import NetworkMember
from gitract_kit.settings import GeometrySettings, IntensitySettings, Settings, WindowSettings

# (height, width), spacing in mm
REAL_SIZES = [((266, 266), 1.5), ((310, 360), 1.5), ((276, 276), 1.63), ((234, 234), 1.5)]


def draw_blob(shape: tuple[int, int], centre: tuple[float, float] = (0.4, 0.65)) -> np.ndarray:
    """(h, w) bool: an ellipse off the middle, longer than it is high."""
    height, width = shape
    mask = np.zeros(shape, np.uint8)
    middle = round(width * centre[1]), round(height * centre[0])
    cv2.ellipse(mask, middle, (width // 6, height // 9), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def make_scan(shape: tuple[int, int] = (40, 48), slices: int = 5, spacing_mm: float = 1.5) -> Scan:
    """A scan whose middle slices show the blob, at 60,000 on 1,000."""
    volume = np.full((slices, *shape), 1000, dtype=np.uint16)
    volume[1:-1, draw_blob(shape)] = 60000
    ids = tuple(f"case1_day0_slice_{number:04d}" for number in range(1, slices + 1))
    return Scan("case1_day0", ids, np.arange(1, slices + 1), volume, (spacing_mm, spacing_mm))


class SeeThrough(torch.nn.Module):
    """A network whose probability is near 1 where the middle slice is bright."""

    def __init__(self, organs: int = 3) -> None:
        super().__init__()
        self.organs = organs

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        middle = windows[:, windows.shape[1] // 2, None]
        return ((middle - 0.5) * 20).repeat(1, self.organs, 1, 1)


def see_through_settings(**changes: object) -> Settings:
    values = {
        "window": WindowSettings(slices=3),
        "geometry": GeometrySettings(height=64, width=64),
        "intensity": IntensitySettings(low_percentile=0.0, high_percentile=100.0),
    }
    return Settings(**{**values, **changes})


def see_through(
    tta: str = "none", batch_size: int = 4, name: str = "see-through", **changes
) -> NetworkMember:
    settings = see_through_settings(**changes)
    return NetworkMember(SeeThrough(), settings, tta=tta, batch_size=batch_size, name=name)


@dataclass
class FixedMember:
    """A member that answers the same probabilities everywhere, one an organ."""

    probabilities: Sequence[float] = (0.9, 0.1, 0.6)
    name: str = "fixed"
    weight: float = 1.0
    organs: tuple[str, ...] = ORGANS
    group: str = "fixed"
    passes: int = 1
    role: str = "segment"

    def without_tta(self) -> FixedMember:
        return replace(self, passes=1)

    def predict(self, scan: Scan, wanted: np.ndarray | None = None) -> np.ndarray:
        answer = np.empty((len(scan.volume), len(self.organs), *scan.shape), dtype=np.float16)
        answer[:] = np.asarray(self.probabilities).reshape(1, -1, 1, 1)
        return answer


def write_scan(
    folder: Path,
    scan: str,
    slices: Sequence[int] = (1, 2, 3, 4),
    shape: tuple[int, int] = (40, 48),
    dtype: type = np.uint16,
) -> list[str]:
    """Write a scan's PNGs, the blob on all but the first, and return the ids."""
    place = folder / scan.partition("_")[0] / scan / "scans"
    place.mkdir(parents=True)
    height, width = shape
    for number in slices:
        image = np.full(shape, 1000, dtype=np.uint16)
        if number != slices[0]:
            image[draw_blob(shape)] = 60000
        image = (image // 257).astype(np.uint8) if dtype is np.uint8 else image
        cv2.imwrite(str(place / f"slice_{number:04d}_{width}_{height}_1.50_1.50.png"), image)
    return [f"{scan}_slice_{number:04d}" for number in slices]


def write_sample(root: Path, ids: Sequence[str]) -> None:
    lines = ["id,class,predicted", *(f"{slice_id},{organ}," for slice_id in ids for organ in ORGANS)]
    (root / "sample_submission.csv").write_text("\n".join(lines) + "\n")
