"""The four sums that a score is made of: added up, they give the score of any group of scans at once.

They are, in this order, ``dice_sum`` and ``dice_rows``, ``distance_sum`` and ``volumes``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from gitract_kit.competition.metric import DICE_WEIGHT, HAUSDORFF_WEIGHT

__all__ = ["bootstrap_interval", "bootstrap_lead", "score_by", "total_of"]

_SUMS = ["dice_sum", "dice_rows", "distance_sum", "volumes"]


def total_of(sums: np.ndarray) -> np.ndarray:
    """Return the score of sums (..., 4); NaN where nothing counts."""
    dice, hausdorff = _means_of(sums)
    return DICE_WEIGHT * dice + HAUSDORFF_WEIGHT * (1.0 - hausdorff)


def score_by(parts: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """Return total, dice, hausdorff and the number of scans of each group of ``by``, a column or several.

    ``parts`` is `Score.parts` with those columns. NaN stands where a group has nothing to average.
    """
    sums = _sum_by(parts, by)
    dice, hausdorff = _means_of(sums.to_numpy())
    return pd.DataFrame(
        {
            "total": total_of(sums.to_numpy()),
            "dice": dice,
            "hausdorff": hausdorff,
            "scans": parts.groupby(by)["scan"].nunique(),
        },
        index=sums.index,
    )


def bootstrap_interval(
    parts: pd.DataFrame, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, list[float]] | None:
    """Return [low, high] of total, dice and hausdorff over resampled cases; None where there is one case alone.

    ``parts`` is `Score.parts` with a column ``case``. Cases are drawn, not scans: the days of a case are alike. The
    bounds are percentiles; the same seed gives the same ones.
    """
    sums = _sum_by(parts, "case").to_numpy()
    if len(sums) < 2:
        return None
    drawn = _draw(len(sums), resamples, seed) @ sums
    dice, hausdorff = _means_of(drawn)
    values = {"total": total_of(drawn), "dice": dice, "hausdorff": hausdorff}
    return {name: _percentiles(found, level) for name, found in values.items()}


def bootstrap_lead(
    parts: pd.DataFrame,
    other: pd.DataFrame,
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[float] | None:
    """Return [low, high] of the total of ``parts`` less that of ``other``; None where there is one case alone.

    Both are of the same cases, and are resampled alike: a case that is hard for both says nothing of their difference.
    Otherwise as `bootstrap_interval`.
    """
    sums, others = (_sum_by(one, "case") for one in (parts, other))
    if len(sums) < 2:
        return None
    drawn = _draw(len(sums), resamples, seed)
    totals, other_totals = (total_of(drawn @ one.to_numpy()) for one in (sums, others.loc[sums.index]))
    return _percentiles(totals - other_totals, level)


def _draw(cases: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each case is drawn, (resamples, cases)."""
    return np.random.default_rng(seed).multinomial(cases, np.full(cases, 1 / cases), resamples)


def _percentiles(values: np.ndarray, level: float) -> list[float]:
    # a draw of cases without a row that counts has no score
    values = values[~np.isnan(values)]
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist() if len(values) else [np.nan] * 2


def _means_of(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dice and distance of sums (..., 4)."""
    dice_sum, rows, distance_sum, volumes = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return dice_sum / rows, distance_sum / volumes


def _sum_by(parts: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    distances = {"distance_sum": parts["hausdorff"].fillna(0.0), "volumes": parts["hausdorff"].notna()}
    return parts.assign(**distances).groupby(by)[_SUMS].sum().astype(float)
