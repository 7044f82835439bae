"""Masks as the run-length strings of the competition's tables, and back.

A string is ``start length`` pairs over the mask's pixels in row-major (C) order, counted from 1: sorted,
positive, not overlapping. The competition's page says "top to bottom, then left to right"; its labels are
row-major (measured: the runs of a 360 x 310 slice wrap at 360, its width).

An empty mask is the empty string, and a missing value (NaN, None) is read as one. Runs that touch ("1 2 3 4")
do not overlap and decode; encoding always joins them ("1 6").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from gitract_kit.errors import InputError, RLEError

__all__ = ["check_rle", "rle_decode", "rle_decode_batch", "rle_encode", "rle_encode_batch"]


def rle_encode(mask: np.ndarray) -> str:
    """Run-length string of one mask; "" for an empty one.

    ``mask`` is ``(h, w)``, bool or integers 0 and 1; anything else is an :class:`InputError`.
    """
    return rle_encode_batch(_as_bool(mask, ndim=2)[None])[0]


def rle_decode(rle: str | float | None, shape: tuple[int, int]) -> np.ndarray:
    """The mask a run-length string describes: ``(h, w)`` bool.

    ``shape`` is ``(height, width)`` in pixels (file names of the competition hold the width first). "", NaN
    and None give an empty mask. A malformed string is an :class:`RLEError` that names the pair.
    """
    height, width = shape
    flat = np.zeros(height * width, dtype=bool)
    for start, end in _read_runs(rle, flat.size):
        flat[start:end] = True
    return flat.reshape(height, width)


def rle_encode_batch(masks: np.ndarray) -> list[str]:
    """Run-length strings of ``(n, h, w)`` masks, bool or integers 0 and 1; one string a mask, in order."""
    masks = _as_bool(masks, ndim=3)
    n, height, width = masks.shape
    padded = np.zeros((n, height * width + 2), dtype=bool)
    padded[:, 1:-1] = masks.reshape(n, height * width)
    return [_write_runs(np.flatnonzero(row[1:] != row[:-1])) for row in padded]


def rle_decode_batch(rles: Iterable[str | float | None], shape: tuple[int, int]) -> np.ndarray:
    """Masks of several run-length strings that share one ``(height, width)``: ``(n, h, w)`` bool, in order.

    Errors are those of :func:`rle_decode`, with the position in the batch (from 1) in front.
    """
    rles = list(rles)
    masks = np.zeros((len(rles), *shape), dtype=bool)
    for number, (rle, mask) in enumerate(zip(rles, masks, strict=True), start=1):
        try:
            mask[:] = rle_decode(rle, shape)
        except RLEError as error:
            raise RLEError(f"mask {number} of {len(rles)}: {error}") from error
    return masks


def check_rle(rle: str | float | None, shape: tuple[int, int] | int) -> None:
    """None where ``rle`` decodes; otherwise the :class:`RLEError` that decoding would raise. Builds no mask.

    ``shape`` is ``(height, width)`` or their product.
    """
    _read_runs(rle, shape if isinstance(shape, int) else shape[0] * shape[1])


def _as_bool(masks: np.ndarray, ndim: int) -> np.ndarray:
    axes = "(h, w)" if ndim == 2 else "(n, h, w)"
    if not isinstance(masks, np.ndarray) or masks.ndim != ndim:
        found = f"shape {masks.shape}" if isinstance(masks, np.ndarray) else type(masks).__name__
        raise InputError(f"found {found}, expected a numpy array {axes}: pass one mask a slice and organ")
    if masks.dtype == bool:
        return masks
    if not np.issubdtype(masks.dtype, np.integer):
        raise InputError(f"found a {masks.dtype} mask, expected bool or integers 0 and 1: threshold it first")
    if masks.size and (masks.min() < 0 or masks.max() > 1):
        raise InputError(
            f"found mask values {masks.min()} to {masks.max()}, expected 0 and 1: compare it with the label"
        )
    return masks.astype(bool)


def _write_runs(edges: np.ndarray) -> str:
    numbers = edges + 1
    numbers[1::2] -= numbers[::2]
    return " ".join(map(str, numbers.tolist()))


def _read_runs(rle: Any, n_pixels: int) -> list[tuple[int, int]]:
    """Half-open ``(start, end)`` of each run, from 0."""
    text = _as_text(rle)
    if not text:
        return []
    numbers = np.fromstring(text, dtype=np.int64, sep=" ")
    # the upper bound comes before any addition, so that no sum below overflows
    if numbers.size % 2 or numbers.min() < 1 or numbers.max() > n_pixels:
        _raise_first_fault(text, n_pixels)
    starts = numbers[::2] - 1
    ends = starts + numbers[1::2]
    if ends[-1] > n_pixels or (starts[1:] < ends[:-1]).any():
        _raise_first_fault(text, n_pixels)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _as_text(rle: Any) -> str:
    """Plain digits and spaces, or an error."""
    if not isinstance(rle, str):
        return _missing_as_text(rle)
    if rle.isascii() and rle.replace(" ", "").isdigit():
        return rle
    words = rle.split()
    for position, word in enumerate(words):
        _number(word, position)
    return " ".join(words)


def _missing_as_text(rle: Any) -> str:
    if rle is None or rle is pd.NA or (isinstance(rle, (float, np.floating)) and np.isnan(rle)):
        return ""
    raise RLEError(
        f"found {rle!r} ({type(rle).__name__}), expected text of 'start length' pairs: "
        "read the column as text (pandas: dtype=str)"
    )


def _number(word: str, position: int) -> int:
    pair, role = position // 2 + 1, ("start", "length")[position % 2]
    if not re.fullmatch("-?[0-9]+", word):
        raise RLEError(f"pair {pair}: its {role} is '{word[:40]}', expected a whole number written in digits")
    if word.startswith("-") or not word.strip("0"):
        raise RLEError(
            f"pair {pair}: its {role} is {word[:40]}, expected 1 or more: pixels and lengths count from 1"
        )
    if len(word) > 18:
        raise RLEError(f"pair {pair}: its {role} has {len(word)} digits, and no mask has that many pixels")
    return int(word)


def _raise_first_fault(text: str, n_pixels: int) -> NoReturn:
    """Say which pair is wrong and why; for strings already known to be at fault."""
    words = text.split()
    numbers = [_number(word, position) for position, word in enumerate(words)]
    previous_start = previous_end = 0
    for pair, (start, length) in enumerate(zip(numbers[::2], numbers[1::2], strict=False), start=1):
        end = start + length - 1
        run = f"pair {pair} ('{start} {length}')"
        if end > n_pixels:
            raise RLEError(
                f"{run} ends at pixel {end}, but the mask has {n_pixels}: check the slice's height and width"
            )
        if start <= previous_start:
            raise RLEError(
                f"{run} starts before pair {pair - 1}, at {previous_start}: sort the runs by start"
            )
        if start <= previous_end:
            raise RLEError(
                f"{run} overlaps pair {pair - 1}, which ends at pixel {previous_end}: merge runs that overlap"
            )
        previous_start, previous_end = start, end
    raise RLEError(
        f"pair {len(words) // 2 + 1} ('{words[-1]}') has a start and no length: "
        f"expected an even count of numbers, found {len(words)}"
    )
