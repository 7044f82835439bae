"""Slices with outlines drawn on them, as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

__all__ = ["PALETTE", "contact_sheet", "draw_outlines", "slices_worth_showing", "to_gray"]

PALETTE: tuple[tuple[int, int, int], ...] = (
    (230, 75, 53),
    (77, 187, 213),
    (255, 196, 0),
    (0, 160, 135),
    (180, 110, 220),
)
"""RGB colours of the organs, in order, over again past the last: told apart by the colour-blind too."""


def slices_worth_showing(index: pd.DataFrame, organs: Sequence[str], count: int) -> list[str]:
    """Return the ids of up to ``count`` slices of ``index`` with many organs, evenly spread over all such.

    Slices with fewer organs come in where there are not enough with more. The same index gives the same slices,
    whatever was predicted for them.
    """
    held = (index[list(organs)] != "").sum(axis=1)
    enough = held.nlargest(count).min()
    best = index.loc[held >= enough, "id"]
    count = min(count, len(best))
    # the middles of equal parts: at a part's ends organs just begin or end
    return best.iloc[((np.arange(count) + 0.5) * len(best) / count).astype(int)].tolist()


def to_gray(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a slice (h, w) as uint8, ``low`` black and ``high`` white."""
    return (np.clip((image.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def draw_outlines(
    gray: np.ndarray,
    masks: np.ndarray,
    *,
    zoom: int = 2,
    thickness: int = 1,
    dashed: bool = False,
    canvas: np.ndarray | None = None,
) -> np.ndarray:
    """Return an RGB picture (zoom*h, zoom*w, 3) uint8 of the slice with each organ's outline in its colour.

    ``gray`` is (h, w) uint8, ``masks`` (organs, h, w) bool; ``thickness`` is in pixels of the picture. ``dashed`` marks
    the second of two outlines, drawn on the first one's picture, which is then given as ``canvas``.
    """
    size = gray.shape[1] * zoom, gray.shape[0] * zoom
    if canvas is None:
        canvas = cv2.cvtColor(cv2.resize(gray, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)
    for organ, mask in enumerate(masks):
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        line = np.zeros(large.shape, dtype=np.uint8)
        for contour in contours:
            points = contour[:, 0]
            if dashed:
                points = points[np.arange(len(points)) % 6 < 3]
            line[points[:, 1], points[:, 0]] = 1
        line = cv2.dilate(line, np.ones((thickness, thickness), dtype=np.uint8))
        canvas[line > 0] = PALETTE[organ % len(PALETTE)]
    return canvas


def contact_sheet(pictures: Sequence[np.ndarray], captions: Sequence[str], *, columns: int = 3) -> np.ndarray:
    """Return RGB pictures (h, w, 3) uint8 of any sizes on one dark sheet, each under its caption."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    bar = 22
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + bar), min(columns, len(pictures)) * width, 3), 24, dtype=np.uint8)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        top, left = (number // columns) * (height + bar), (number % columns) * width
        cv2.putText(
            sheet, caption, (left + 6, top + 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (230,) * 3, 1, cv2.LINE_AA
        )
        y, x = top + bar + (height - picture.shape[0]) // 2, left + (width - picture.shape[1]) // 2
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet
