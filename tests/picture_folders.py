"""Made-up folders of pictures: bright shapes on noise, and what is drawn on them known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

SIZES = ((64, 64), (80, 60), (57, 91))


def draw_picture(
    rng: np.random.Generator, shape: tuple[int, int], values: Sequence[int] = (255,)
) -> tuple[np.ndarray, np.ndarray]:
    """A picture (h, w) uint8 and its mask: a disc for each value, each brighter than the one before."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    picture, mask = (
        rng.normal(50, 8, shape),
        np.zeros(shape, dtype=np.uint16 if max(values) > 255 else np.uint8),
    )
    radius = min(shape) // 6
    for number, value in enumerate(values, start=1):
        row, column = (int(rng.integers(radius, side - radius)) for side in shape)
        disc = (y - row) ** 2 + (x - column) ** 2 <= radius**2
        mask[disc] = value
        picture[disc] = 50 + 180 * number / len(values)
    return picture.clip(0, 255).astype(np.uint8), mask


def write_picture(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, encoded = cv2.imencode(path.suffix.lower(), picture)
    path.write_bytes(encoded.tobytes())
    return path


def write_folder(
    root: Path,
    *,
    train: int = 6,
    test: int = 2,
    values: Sequence[int] = (255,),
    endings: Sequence[str] = (".png",),
    mask_ending: str = ".png",
    seed: int = 0,
) -> Path:
    """Train/Image, Train/Mask and Test/Image under ``root``, of three sizes; the test's truth is in Test/Mask."""
    rng = np.random.default_rng(seed)
    for split, count in (("Train", train), ("Test", test)):
        for number in range(count):
            picture, mask = draw_picture(rng, SIZES[number % len(SIZES)], values)
            ending = endings[number % len(endings)]
            write_picture(root / split / "Image" / f"{split.lower()} {number}{ending}", picture)
            write_picture(root / split / "Mask" / f"{split.lower()} {number}{mask_ending}", mask)
    return root
