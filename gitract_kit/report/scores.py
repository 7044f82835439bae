"""The score of what a report shows, by every variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from gitract_kit.competition.metric import VARIANTS, Score, competition_score
from gitract_kit.competition.score_sums import bootstrap_interval
from gitract_kit.report.contents import Contents

__all__ = ["RESAMPLES", "Scored", "score_contents", "score_variant"]

RESAMPLES = 1000
"""Of the cases, for an interval: as many as `gitract evaluate` takes."""


@dataclass(frozen=True, eq=False)
class Scored:
    """A score, and how sure it is."""

    score: Score
    parts: pd.DataFrame
    """`Score.parts` with each scan's ``case``, and its ``fold`` where there are folds."""
    interval: Mapping[str, list[float]] | None
    """Of total, dice and hausdorff: 95 % of resampled cases lie between; None where there is one case alone."""


def score_contents(contents: Contents) -> dict[str, Scored]:
    """Return the score by each variant, the default one first."""
    return {variant: score_variant(contents, variant) for variant in VARIANTS}


def score_variant(contents: Contents, variant: str = VARIANTS[0]) -> Scored:
    """Return the score by one variant; the interval is the one that `gitract evaluate` writes by default."""
    score = competition_score(
        contents.truth,
        contents.prediction,
        contents.index,
        variant,
        organs=contents.organs,
        only_common=True,
    )
    about = contents.index.drop_duplicates("scan").set_index("scan")
    parts = score.parts.join(about[[name for name in ("case", "fold") if name in about]], on="scan")
    return Scored(score, parts, bootstrap_interval(parts, resamples=RESAMPLES))
