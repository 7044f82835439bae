"""Masks of held-out scans under any settings: gated, thresholded and cleaned up as a prediction would be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gitract_kit.competition.rle import rle_encode_batch
from gitract_kit.data.oof import HeldOutScan
from gitract_kit.data.postprocess import CleanUp, gate_limits, open_slices
from gitract_kit.settings import PredictionSettings

__all__ = ["draw_masks", "opened_slices", "predict_rows"]


def opened_slices(
    held_out: HeldOutScan, prediction: PredictionSettings, organs: Sequence[str]
) -> np.ndarray | None:
    """Return (z, organ) bool: what the scan's gates let through under ``prediction``; None where it has no gate."""
    gate = held_out.gate_mean()
    return None if gate is None else open_slices(gate, *gate_limits(prediction, organs))


def draw_masks(
    held_out: HeldOutScan, weights: Sequence[float], prediction: PredictionSettings, organs: Sequence[str]
) -> np.ndarray:
    """Return (z, organ, y, x) bool: the masks that ``prediction`` draws from the weighted mean of the scan's runs."""
    opened = opened_slices(held_out, prediction, organs)
    return CleanUp(prediction, organs).apply(held_out.mean(weights), held_out.scan, opened)


def predict_rows(
    held_out: HeldOutScan, weights: Sequence[float], prediction: PredictionSettings, organs: Sequence[str]
) -> pd.DataFrame:
    """Return those masks as rows ``id, class, predicted``."""
    masks = draw_masks(held_out, weights, prediction, organs)
    columns = {organ: rle_encode_batch(masks[:, k]) for k, organ in enumerate(organs)}
    table = pd.DataFrame({"id": held_out.scan.ids, **columns})
    return table.melt(id_vars="id", var_name="class", value_name="predicted")
