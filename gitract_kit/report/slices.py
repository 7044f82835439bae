"""A scan as the slice browser takes it: small pictures, exact outlines, pixel counts."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pandas as pd

from gitract_kit.competition.rle import rle_decode_batch
from gitract_kit.report.contents import Contents

__all__ = ["decode_masks", "describe_scan", "encode_slices", "trace_outlines"]

# 20 scans of it stay under 25 MB, with 0.3 MB of outlines each; 144 real slices of 266 x 266 take quality 65 or 80
_BYTES_A_SCAN = 900_000
_QUALITIES = (80, 65, 50, 35, 20)
_EVERY = 8


def describe_scan(contents: Contents, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the scan of the given index rows as plain lists and texts.

    ``numbers`` are the slices' numbers, ``images`` their pictures; ``truth`` and ``prediction`` hold for each slice
    and organ the outlines (see `trace_outlines`), and ``pixels`` the counts true, predicted and common.
    """
    rows = rows.sort_values("slice", kind="stable")
    truth = decode_masks(contents.truth, "segmentation", rows, contents.organs)
    prediction = decode_masks(contents.prediction, "predicted", rows, contents.organs)
    counts = [masks.sum(axis=(2, 3)) for masks in (truth, prediction, truth & prediction)]
    return {
        "name": str(rows.iloc[0]["scan"]),
        "width": truth.shape[3],
        "height": truth.shape[2],
        "numbers": rows["slice"].astype(int).tolist(),
        "images": encode_slices(contents.load_gray(rows)),
        "truth": [[trace_outlines(mask) for mask in organs] for organs in truth],
        "prediction": [[trace_outlines(mask) for mask in organs] for organs in prediction],
        "pixels": np.stack(counts, axis=-1).tolist(),
    }


def encode_slices(volume: np.ndarray) -> list[str]:
    """Return a WebP picture in base64 for each slice of ``volume`` (z, y, x) uint8.

    The quality is the best at which the scan stays within its share of the page, or the lowest.
    """
    few = volume[::_EVERY]
    for quality in _QUALITIES:
        # most scans that are too large at a quality show it by a few of their slices
        if quality > _QUALITIES[-1] and _size(_encode_all(few, quality)) * len(volume) > _BYTES_A_SCAN * len(
            few
        ):
            continue
        pictures = _encode_all(volume, quality)
        if _size(pictures) <= _BYTES_A_SCAN:
            break
    return pictures


def trace_outlines(mask: np.ndarray) -> list[list[int]]:
    """Return the outlines of ``mask`` (h, w) bool along its pixels' edges, holes and single pixels included.

    An outline is x and y of a corner, counted in pixels from the picture's corner, and then signed steps, in x and
    in y by turns, the last of which leads to the corner that the first began at or in line with it.
    """
    if not mask.any():
        return []
    # At twice the size each quarter of a pixel stands for that pixel's nearest corner, so the outline through the
    # quarters' centres, as OpenCV traces it, becomes the outline along the edges.
    large = mask.view(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [_turns((contour[:, 0] + 1) // 2) for contour in contours]


def _turns(corners: np.ndarray) -> list[int]:
    """Return a closed path over neighbouring pixel corners (n, 2) as its start and the steps between its turns."""
    moves = np.diff(corners, axis=0, append=corners[:1])
    moves = moves[moves.any(axis=1)]
    steps: list[int] = []
    for x, y in moves.tolist():
        along_x, length = x != 0, x or y
        # a step in x stands at even places
        if steps and (len(steps) % 2 == 1) == along_x and (steps[-1] > 0) == (length > 0):
            steps[-1] += length
        elif (len(steps) % 2 == 0) == along_x:
            steps.append(length)
        else:
            steps += [0, length]
    return [*map(int, corners[0]), *steps]


def _encode_all(volume: np.ndarray, quality: int) -> list[str]:
    # OpenCV encodes outside the interpreter's lock, so threads are enough
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda image: _encode(image, quality), volume))


def _size(pictures: Sequence[str]) -> int:
    return sum(map(len, pictures))


def _encode(image: np.ndarray, quality: int) -> str:
    _, encoded = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return base64.b64encode(encoded.tobytes()).decode("ascii")


def decode_masks(table: pd.DataFrame, value: str, rows: pd.DataFrame, organs: Sequence[str]) -> np.ndarray:
    """Return (z, organ, y, x) bool masks of the slices ``rows``."""
    shape = int(rows.iloc[0]["height"]), int(rows.iloc[0]["width"])
    mine = table[table["id"].isin(rows["id"])]
    wide = mine.pivot(index="id", columns="class", values=value).loc[rows["id"]]
    return np.stack([rle_decode_batch(wide[organ].tolist(), shape) for organ in organs], axis=1)
