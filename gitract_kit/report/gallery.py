"""The same slices as several runs draw them: a picture with a column a run, the truth first."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.figure import Figure

from gitract_kit.competition.metric import dice_coefficient
from gitract_kit.data.overlay import PALETTE, draw_outlines, slices_worth_showing
from gitract_kit.report.comparison import Comparison
from gitract_kit.report.slices import decode_masks
from gitract_kit.report.tables import organ_label

__all__ = ["draw_gallery"]

_CELL, _GAP, _LEFT, _TOP, _BOTTOM, _NUMBER = 340, 6, 34, 62, 44, 44
"""Pixels of the picture: a cell's width, between cells, round them, and the width of a number."""
_SHAPE, _WIDER, _LEAST = 1.25, 1.25, 0.5
"""A cell's width by its height; how much more than what is drawn it shows, and the least share of a slice's width."""
_DPI = 100


@dataclass(frozen=True, eq=False)
class _Row:
    """One slice."""

    caption: str
    gray: np.ndarray
    """(h, w) uint8."""
    masks: list[np.ndarray]
    """(organ, h, w) bool: the truth's, and each model's."""


def draw_gallery(comparison: Comparison, slices: int) -> bytes:
    """Return a PNG of up to ``slices`` slices that hold organs, evenly spread over the compared scans."""
    rows = [_row(comparison, id_) for id_ in _chosen(comparison, slices)]
    heights = [round(_CELL * row.gray.shape[0] / row.gray.shape[1]) for row in rows]
    columns = len(comparison.models) + 1
    sheet = _Sheet(
        width=_LEFT + columns * _CELL + (columns - 1) * _GAP + _GAP,
        height=_TOP + sum(heights) + (len(rows) - 1) * _GAP + _BOTTOM,
    )
    sheet.draw_heads(comparison)
    top = _TOP
    for row, height in zip(rows, heights, strict=True):
        sheet.draw_row(row, top, height)
        top += height + _GAP
    sheet.draw_key(comparison.organs)
    return sheet.encode()


def _chosen(comparison: Comparison, slices: int) -> list[str]:
    index = comparison.index.sort_values(["scan", "slice"], kind="stable")
    return slices_worth_showing(index, comparison.organs, slices)


def _row(comparison: Comparison, slice_id: str) -> _Row:
    index, organs = comparison.index, comparison.organs
    row = index[index["id"] == slice_id]
    scan = index[index["scan"] == row.iloc[0]["scan"]].sort_values("slice", kind="stable")
    contents = comparison.models[0].contents
    place = scan["id"].tolist().index(slice_id)
    masks = [decode_masks(contents.truth, "segmentation", row, organs)[0]]
    masks += [
        decode_masks(model.contents.prediction, "predicted", row, organs)[0] for model in comparison.models
    ]
    caption = f"{row.iloc[0]['scan']}, slice {row.iloc[0]['slice']}"
    rows, columns = _window(np.any(masks, axis=(0, 1)))
    gray = contents.load_gray(scan)[place]
    return _Row(caption, gray[rows, columns], [mask[:, rows, columns] for mask in masks])


def _window(drawn: np.ndarray) -> tuple[slice, slice]:
    """Return rows and columns round all that is ``drawn`` (h, w) bool, in a cell's shape where there is room."""
    (top, bottom), (left, right) = (_ends(drawn.any(axis=axis)) for axis in (1, 0))
    width = max((right - left) * _WIDER, (bottom - top) * _WIDER * _SHAPE, _LEAST * drawn.shape[1])
    height = width / _SHAPE
    return _around((top + bottom) / 2, height, drawn.shape[0]), _around(
        (left + right) / 2, width, drawn.shape[1]
    )


def _ends(there: np.ndarray) -> tuple[int, int]:
    places = np.flatnonzero(there)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(there))


def _around(middle: float, length: float, most: int) -> slice:
    size = min(round(length), most)
    start = min(max(round(middle - size / 2), 0), most - size)
    return slice(start, start + size)


class _Sheet:
    """A white sheet whose places are counted in pixels from its upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")

    def draw_heads(self, comparison: Comparison) -> None:
        heads = [("truth", ""), *((model.label, model.network) for model in comparison.models)]
        for column, (label, network) in enumerate(heads):
            middle = _left(column) + _CELL / 2
            self._text(middle, 34, _shorten(label, 34), ha="center", va="bottom", size=14, weight="bold")
            self._text(middle, 54, _shorten(network, 48), ha="center", va="bottom", size=9.5, color="0.35")

    def draw_row(self, row: _Row, top: float, height: float) -> None:
        self._text(_LEFT - 8, top + height / 2, row.caption, ha="right", va="center", size=10.5, rotation=90)
        for column, masks in enumerate(row.masks):
            picture = _outlined(row.gray, masks, (_CELL, height))
            if column:
                # numbers are read on tissue too
                picture[-28:, : 8 + _NUMBER * len(masks)] //= 3
            self._place(picture, _left(column), top)
            if column:
                self._draw_dice(row.masks[0], masks, _left(column) + 8, top + height - 8)

    def draw_key(self, organs: Sequence[str]) -> None:
        left, bottom = _LEFT, self._height - 12
        for k, organ in enumerate(organs):
            color = np.array(PALETTE[k % len(PALETTE)]) / 255
            self._text(left, bottom, "\u25a0", va="bottom", size=14, color=color)
            self._text(left + 20, bottom, organ_label(organ), va="bottom", size=11.5)
            left += 40 + 9 * len(organ)
        if len(organs):
            told = "numbers: Dice of the slice, in the organs' order"
            self._text(left + 10, bottom, told, va="bottom", size=10, color="0.35")

    def encode(self) -> bytes:
        """Return the sheet as PNG."""
        buffer = io.BytesIO()
        self._figure.savefig(buffer, format="png", dpi=_DPI)
        return buffer.getvalue()

    def _place(self, picture: np.ndarray, left: float, top: float) -> None:
        height, width = picture.shape[:2]
        corner = left / self._width, 1 - (top + height) / self._height
        axes = self._figure.add_axes((*corner, width / self._width, height / self._height))
        axes.imshow(picture, interpolation="nearest", aspect="auto")
        axes.set_axis_off()

    def _draw_dice(self, mask_true: np.ndarray, mask_pred: np.ndarray, left: float, bottom: float) -> None:
        for k, (truth, predicted) in enumerate(zip(mask_true, mask_pred, strict=True)):
            dice = dice_coefficient(truth, predicted)
            color = np.array(PALETTE[k % len(PALETTE)]) / 255
            told = "\u2013" if np.isnan(dice) else f"{dice:.2f}"
            self._text(left + _NUMBER * k, bottom, told, va="bottom", size=11, color=color, weight="bold")

    def _text(self, x: float, y: float, text: str, **style: object) -> None:
        self._figure.text(x / self._width, 1 - y / self._height, text, parse_math=False, **style)


def _left(column: int) -> int:
    return _LEFT + column * (_CELL + _GAP)


def _outlined(gray: np.ndarray, masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the slice with its outlines as RGB (height, width, 3) uint8 of ``size`` (width, height)."""
    # drawn large and shrunk, the lines are smooth
    zoom = max(-(-2 * size[0] // gray.shape[1]), 2)
    return cv2.resize(draw_outlines(gray, masks, zoom=zoom, thickness=3), size, interpolation=cv2.INTER_AREA)


def _shorten(text: str, most: int) -> str:
    """Return ``text`` with its middle left out where it is longer than ``most``."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}\u2026{text[-half:]}"
