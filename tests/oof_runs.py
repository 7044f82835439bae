"""Made-up run folders: held-out probabilities of discs, with what is wrong with them known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gitract_kit.competition.rle import rle_encode_batch
from gitract_kit.settings import settings_from_dict, settings_to_dict

ORGANS = ("round", "square")
SHAPE = (8, 32, 36)

Draw = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From masks (z, organ, y, x) bool to the probabilities (same shape) of one scan."""


def draw_truth(rng: np.random.Generator) -> np.ndarray:
    """A disc and a square on the middle slices, (z, organ, y, x) bool, somewhere else in each scan."""
    depth, height, width = SHAPE
    y, x = np.mgrid[:height, :width]
    masks = np.zeros((depth, len(ORGANS), height, width), dtype=bool)
    row, column = rng.integers(10, 13), rng.integers(10, 13)
    masks[2:6, 0] = (y - row) ** 2 + (x - column) ** 2 <= 36
    masks[3:7, 1, row + 6 : row + 16, column + 8 : column + 18] = True
    return masks


def sharp(masks: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """0.9 inside and 0.05 outside."""
    return np.where(masks, 0.9, 0.05)


def write_run(
    run: Path,
    draw: Draw,
    *,
    folds: Mapping[int, Sequence[str]] | None = None,
    organs: Sequence[str] = ORGANS,
    fingerprint: str = "f" * 64,
    prediction: Mapping[str, object] | None = None,
    seed: int = 0,
) -> Path:
    """Write the run folder of a fold for each entry of ``folds`` (fold: its scans); return it.

    The truth of a scan depends on its name alone, so that two runs share it.
    """
    folds = (
        {0: ["case1_day0", "case1_day4"], 1: ["case2_day0"], 2: ["case3_day1"]} if folds is None else folds
    )
    settings = settings_from_dict({"organs": list(organs), "prediction": prediction or {}})
    about = {"settings": settings_to_dict(settings), "data_fingerprint": fingerprint}
    rng = np.random.default_rng(seed)
    for fold, scans in folds.items():
        oof = run / f"fold_{fold}" / "oof"
        oof.mkdir(parents=True)
        (run / f"fold_{fold}" / "model.json").write_text(json.dumps({"fold": fold, **about}))
        tables = []
        for scan in scans:
            masks = draw_truth(np.random.default_rng(list(scan.encode())))
            probabilities = np.rint(draw(masks, rng) * 255).astype(np.uint8)
            np.savez_compressed(oof / f"{scan}.npz", probabilities=probabilities)
            tables.append(_rows(scan, masks, organs).assign(fold=fold))
        pd.concat(tables).to_csv(oof / "index.csv", index=False)
    return run


def _rows(scan: str, masks: np.ndarray, organs: Sequence[str]) -> pd.DataFrame:
    case, day = scan.split("_day")
    numbers = range(1, len(masks) + 1)
    return pd.DataFrame(
        {
            "id": [f"{scan}_slice_{number:04d}" for number in numbers],
            "case": case,
            "day": int(day),
            "scan": scan,
            "slice": numbers,
            "path": "",
            "width": masks.shape[3],
            "height": masks.shape[2],
            "spacing_x_mm": 1.5,
            "spacing_y_mm": 1.5,
            "bad_scan": False,
            **{organ: rle_encode_batch(masks[:, k]) for k, organ in enumerate(organs)},
        }
    )
