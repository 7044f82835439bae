"""Run folders whose probabilities are made from the truth, not by a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from gitract_kit.competition.rle import rle_decode_batch
from gitract_kit.data.prepare import load_prepared
from gitract_kit.settings import Settings, settings_to_dict

__all__ = ["write_run"]


def write_run(
    folder: Path, work: Path, settings: Settings, *, moved: int = 2, folds: Sequence[int] | None = None
) -> Path:
    """A finished run of folds, or of all: its probabilities the truth, blurred and ``moved`` by pixels."""
    prepared = load_prepared(work)
    for fold in prepared.folds if folds is None else folds:
        rows = prepared.index[prepared.index["fold"] == fold].drop(columns="fold")
        oof = folder / f"fold_{fold}" / "oof"
        oof.mkdir(parents=True)
        rows.to_csv(oof / "index.csv", index=False)
        for name, scan in rows.groupby("scan"):
            np.savez_compressed(oof / f"{name}.npz", probabilities=blur_truth(scan, prepared.organs, moved))
        about = {
            "settings": settings_to_dict(settings),
            "fold": fold,
            "epoch": 2,
            "data_fingerprint": prepared.fingerprint,
            "work": str(work),
        }
        (oof.parent / "model.json").write_text(json.dumps(about), encoding="utf-8")
        epochs = {"epoch": [1, 2], "train_loss": [0.9, 0.5], "val_loss": [0.8, 0.6]}
        measured = {
            "score": [0.3, 0.6],
            "dice": [0.2, 0.5],
            "hausdorff": [0.6, 0.3],
            "train_seconds": [9.0, 7.5],
        }
        pd.DataFrame({**epochs, **measured}).to_csv(oof.parent / "metrics.csv", index=False)
    return folder


def blur_truth(scan: pd.DataFrame, organs: tuple[str, ...], moved: int) -> np.ndarray:
    shape = int(scan["height"].iloc[0]), int(scan["width"].iloc[0])
    masks = np.stack([rle_decode_batch(scan[organ].tolist(), shape) for organ in organs], axis=1)
    blurred = [
        [cv2.GaussianBlur(mask, (5, 5), 0) for mask in slices]
        for slices in np.roll(masks, moved, axis=3).astype(np.float32)
    ]
    return np.rint(np.array(blurred) * 255).astype(np.uint8)
