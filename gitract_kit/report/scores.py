"""The score of what a report shows, by any grouping of its scans and organs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gitract_kit.competition.metric import DICE_WEIGHT, HAUSDORFF_WEIGHT, Score, competition_score
from gitract_kit.report.contents import Contents

__all__ = ["compute_parts", "group_scores"]


def compute_parts(contents: Contents, variant: str = "leaderboard") -> tuple[Score, pd.DataFrame]:
    """Return the whole score, and `Score.parts` with each scan's ``fold`` where the contents have folds."""
    score = competition_score(
        contents.truth,
        contents.prediction,
        contents.index,
        variant,
        organs=contents.organs,
        only_common=True,
    )
    parts = score.parts
    if "fold" in contents.index:
        folds = contents.index.drop_duplicates("scan").set_index("scan")["fold"]
        parts = parts.assign(fold=parts["scan"].map(folds))
    return score, parts


def group_scores(parts: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return columns dice, hausdorff, total for each group of ``parts``, indexed ``by``, in order of appearance.

    NaN stands where a group has nothing to average.
    """
    groups = parts.groupby(list(by), sort=False)
    sums = groups[["dice_sum", "dice_rows"]].sum()
    # 0 / 0 is NaN without a warning in pandas, which is what a group without rows that count is worth
    dice, hausdorff = sums["dice_sum"] / sums["dice_rows"], groups["hausdorff"].mean()
    total = DICE_WEIGHT * dice + HAUSDORFF_WEIGHT * (1.0 - hausdorff)
    return pd.DataFrame({"dice": dice, "hausdorff": hausdorff, "total": total})
