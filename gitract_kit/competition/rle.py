"""Masks as the run-length strings of the competition's tables, and back.

A string is ``start length`` pairs over the mask's pixels in row-major (C) order, counted from 1: sorted,
positive, not overlapping. The competition's page says "top to bottom, then left to right"; its labels are
row-major (measured: the runs of a 360 x 310 slice wrap at 360, its width).

An empty mask is the empty string, and a missing value (NaN, None) is read as one. Runs that touch ("1 2 3 4")
do not overlap and decode; encoding joins them ("1 6").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from gitract_kit.errors import InputError, RLEError

__all__ = ["check_rle", "rle_decode", "rle_decode_batch", "rle_encode", "rle_encode_batch"]

_CHUNK = 8  # masks encoded at one go: about half a megabyte, which stays in a core's cache
# Two digits at a time: 00 to 99, and the same as they begin a number, with zero bytes for what is not written.
_DIGIT_PAIRS = np.frombuffer(
    b"".join(f"{i:02d}".encode() for i in range(100))
    + b"".join(f"{i or ''}".rjust(2, "\0").encode() for i in range(100)),
    dtype=np.uint16,
)
_SHORT_TEXT = 100  # letters that Python has read before numpy's calls have started up


def rle_encode(mask: np.ndarray) -> str:
    """Run-length string of one mask; "" for an empty one.

    ``mask`` is ``(h, w)``, bool or integers 0 and 1; anything else is an :class:`InputError`.
    """
    flat = _as_bool(mask, ndim=2).ravel()
    if not flat.any():
        return ""
    numbers = _find_edges([flat], _room_for_edges(1, flat.size)) + 1
    numbers[1::2] -= numbers[::2]
    return " ".join(["%d"] * numbers.size) % tuple(numbers.tolist())


def rle_encode_batch(masks: np.ndarray) -> list[str]:
    """Run-length strings of ``(n, h, w)`` masks, bool or integers 0 and 1; one string a mask, in order."""
    masks = _as_bool(masks, ndim=3)
    n, height, width = masks.shape
    flat = masks.reshape(n, height * width)
    room = _room_for_edges(min(n, _CHUNK), height * width)
    rles = [""] * n
    for first in range(0, n, _CHUNK):
        filled = [i for i in range(first, min(first + _CHUNK, n)) if flat[i].any()]
        if filled:
            for i, rle in zip(filled, _encode_filled([flat[i] for i in filled], room), strict=True):
                rles[i] = rle
    return rles


def rle_decode(rle: str | float | None, shape: tuple[int, int]) -> np.ndarray:
    """The mask a run-length string describes: ``(h, w)`` bool.

    ``shape`` is ``(height, width)`` in pixels (file names of the competition hold the width first). "", NaN
    and None give an empty mask. A malformed string is an :class:`RLEError` that names the pair and the reason.
    """
    text, n_pixels = _as_text(rle), shape[0] * shape[1]
    bounds = _bounds_of_runs(_read_numbers(text), n_pixels) if len(text) > _SHORT_TEXT else None
    if bounds is not None:
        return _fill_between(bounds).reshape(shape)
    flat = np.zeros(n_pixels, dtype=bool)
    for start, end in _read_runs(text, n_pixels):
        flat[start:end] = True
    return flat.reshape(shape)


def rle_decode_batch(rles: Iterable[str | float | None], shape: tuple[int, int]) -> np.ndarray:
    """Masks of several run-length strings that share one ``(height, width)``: ``(n, h, w)`` bool, in order.

    Errors are those of :func:`rle_decode`, with the position in the batch (from 1) in front.
    """
    rles, n_pixels = list(rles), shape[0] * shape[1]
    bounds = _bounds_of_batch(rles, n_pixels)
    if bounds is None:
        _raise_first_fault(rles, n_pixels)
    return _fill_between(bounds).reshape(len(rles), *shape)


def check_rle(rle: str | float | None, shape: tuple[int, int] | int) -> None:
    """None where ``rle`` decodes; otherwise the :class:`RLEError` that decoding would raise. Builds no mask.

    ``shape`` is ``(height, width)`` or their product.
    """
    n_pixels = shape if isinstance(shape, int) else shape[0] * shape[1]
    text = _as_text(rle)
    if len(text) <= _SHORT_TEXT or _bounds_of_runs(_read_numbers(text), n_pixels) is None:
        _read_runs(text, n_pixels)


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


def _room_for_edges(n_masks: int, n_pixels: int) -> np.ndarray:
    """A row a mask: one longer than the mask, where its last run may end, in whole words of 8 bytes."""
    return np.zeros((n_masks, -(-(n_pixels + 1) // 8) * 8), dtype=np.uint8)


def _find_edges(masks: list[np.ndarray], room: np.ndarray) -> np.ndarray:
    """Where runs start and end by turns, as ``row * row length + pixel`` of ``room``; ``masks`` are flat."""
    for mask, row in zip(masks, room, strict=False):
        pixels, n_pixels = mask.view(np.uint8), mask.size
        row[0], row[n_pixels] = pixels[0], pixels[-1]
        np.bitwise_xor(pixels[1:], pixels[:-1], out=row[1:n_pixels])
    # nearly all words hold no edge, and eight pixels are looked at in the time of one
    words = room[: len(masks)].reshape(-1).view(np.uint64)
    hits = np.flatnonzero(words != 0)
    edges = np.flatnonzero(words[hits].view(bool))
    return hits[edges >> 3] * 8 + (edges & 7)


def _encode_filled(masks: list[np.ndarray], room: np.ndarray) -> list[str]:
    """Strings of flat masks, none of them empty."""
    edges = _find_edges(masks, room).astype(np.uint32 if room.size < 2**32 else np.int64)
    owners = edges // room.shape[1]
    numbers = edges - owners * room.shape[1] + 1
    numbers[1::2] -= numbers[::2]
    return _write_lines(numbers, ends_line=np.append(owners[1:] != owners[:-1], True))


def _write_lines(numbers: np.ndarray, ends_line: np.ndarray) -> list[str]:
    """Lines of numbers, all of them above 0, with single spaces between."""
    width = (len(str(numbers.max())) + 1) // 2
    letters = np.full((numbers.size, width + 1), ord(" "), dtype=np.uint16)
    letters[ends_line, width] = ord("\n")
    rest = numbers
    for column in reversed(range(width)):
        hundreds = rest // 100
        letters[:, column] = _DIGIT_PAIRS[rest - hundreds * 100 + (hundreds == 0) * 100]
        rest = hundreds
    return letters.tobytes().translate(None, b"\0").decode("ascii").splitlines()


def _bounds_of_batch(rles: list[Any], n_pixels: int) -> np.ndarray | None:
    try:
        texts = [_as_text(rle) for rle in rles]
    except RLEError:
        return None
    n_numbers = np.array([text.count(" ") + 1 if text else 0 for text in texts], dtype=np.int64)
    if (n_numbers % 2).any():
        return None
    return _bounds_of_runs(_read_numbers(" ".join(filter(None, texts))), n_pixels, n_numbers // 2)


def _read_numbers(text: str) -> np.ndarray:
    return np.fromstring(text, dtype=np.int64, sep=" ") if text else np.empty(0, dtype=np.int64)


def _bounds_of_runs(
    numbers: np.ndarray, n_pixels: int, n_runs: np.ndarray | None = None
) -> np.ndarray | None:
    """Where background and foreground begin by turns in masks laid end to end; None where a run is at fault.

    ``n_runs`` holds the count of runs of each mask, where there are more masks than one.
    """
    if numbers.size % 2:
        return None
    # unsigned, a zero is the largest number there is; and below n_pixels, no sum of two overflows
    from_zero = numbers - 1
    if numbers.size and from_zero.view(np.uint64).max() >= n_pixels:
        return None
    starts, ends, n_masks = from_zero[::2], from_zero[::2] + numbers[1::2], 1
    if n_runs is not None:
        if ends.max(initial=0) > n_pixels:
            return None
        n_masks = n_runs.size
        offsets = np.repeat(np.arange(n_masks) * n_pixels, n_runs)
        starts, ends = starts + offsets, ends + offsets
    bounds = np.zeros(numbers.size + 2, dtype=np.int64)
    bounds[1:-1:2], bounds[2:-1:2], bounds[-1] = starts, ends, n_masks * n_pixels
    return None if (bounds[1:] < bounds[:-1]).any() else bounds


def _fill_between(bounds: np.ndarray) -> np.ndarray:
    foreground = np.zeros(bounds.size - 1, dtype=bool)
    foreground[1::2] = True
    return foreground.repeat(bounds[1:] - bounds[:-1])


def _read_runs(text: str, n_pixels: int) -> list[tuple[int, int]]:
    """Half-open ``(start, end)`` of each run, from 0; a fault is raised."""
    words = text.split()
    if len(words) % 2 or len(text) > _SHORT_TEXT:
        _check_words(words)
    numbers = list(map(int, words))
    runs: list[tuple[int, int]] = []
    previous_end = 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        end = start - 1 + length
        if length < 1 or start <= previous_end or end > n_pixels:
            _raise_misplaced(start, length, runs, n_pixels)
        runs.append((start - 1, end))
        previous_end = end
    return runs


def _as_text(rle: Any) -> str:
    """Digits with single spaces between."""
    if not isinstance(rle, str):
        return _missing_as_text(rle)
    if rle.isascii() and not rle.encode().translate(None, b"0123456789 ") and "  " not in f" {rle} ":
        return rle
    words = rle.split()
    for position, word in enumerate(words):
        _check_word(word, position)
    return " ".join(words)


def _missing_as_text(rle: Any) -> str:
    if rle is None or rle is pd.NA or (isinstance(rle, (float, np.floating)) and np.isnan(rle)):
        return ""
    raise RLEError(
        f"found {rle!r} ({type(rle).__name__}), expected text of 'start length' pairs: "
        "read the column as text (pandas: dtype=str)"
    )


def _number_of(position: int) -> str:
    return f"pair {position // 2 + 1}: its {('start', 'length')[position % 2]}"


def _check_word(word: str, position: int) -> None:
    if re.fullmatch("-[0-9]+", word):
        _raise_below_one(word[:40], position)
    if not re.fullmatch("[0-9]+", word):
        raise RLEError(
            f"{_number_of(position)} is '{word[:40]}', expected a whole number in digits: "
            "write 'start length' pairs with spaces between"
        )


def _raise_below_one(number: int | str, position: int) -> NoReturn:
    raise RLEError(
        f"{_number_of(position)} is {number}, expected 1 or more: pixels and lengths are counted from 1"
    )


def _check_words(words: list[str]) -> None:
    if len(words) % 2:
        raise RLEError(
            f"pair {len(words) // 2 + 1} ('{words[-1][:40]}') has a start and no length: "
            f"expected an even count of numbers, found {len(words)}"
        )
    for position, word in enumerate(words):
        # thousands of digits are more than int() reads
        if len(word) > _SHORT_TEXT:
            raise RLEError(
                f"{_number_of(position)} has {len(word)} digits, expected a pixel of the mask: "
                "check that numbers have not run together"
            )


def _raise_misplaced(start: int, length: int, before: list[tuple[int, int]], n_pixels: int) -> NoReturn:
    for position, number in enumerate((start, length), start=2 * len(before)):
        if number < 1:
            _raise_below_one(number, position)
    pair, end = f"pair {len(before) + 1} ('{start} {length}')", start - 1 + length
    if end > n_pixels:
        raise RLEError(
            f"{pair} ends at pixel {end}, but the mask has {n_pixels}: check the slice's height and width"
        )
    previous = f"pair {len(before)} ({before[-1][0] + 1} to {before[-1][1]})"
    if start <= before[-1][0]:
        raise RLEError(f"{pair} starts before {previous}: sort the runs by their start")
    raise RLEError(f"{pair} overlaps {previous}: merge runs that overlap")


def _raise_first_fault(rles: list[Any], n_pixels: int) -> NoReturn:
    for number, rle in enumerate(rles, start=1):
        try:
            _read_runs(_as_text(rle), n_pixels)
        except RLEError as error:
            raise RLEError(f"mask {number} of {len(rles)}: {error}") from error
