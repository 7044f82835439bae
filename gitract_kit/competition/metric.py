"""The competition's score: 0.4 x Dice + 0.6 x (1 - Hausdorff), by one of three named rules.

The competition's page leaves questions open, and graders answer them differently; so a score says by which
variant it was made. In all of them Dice is a mean over rows (one slice, one organ), pooled over the scans;
the Hausdorff distance is that of the voxel sets of whole scans, each axis divided by its length (z by the
number of slices that the truth has of the scan), then by sqrt(3); and where exactly one side is empty, Dice
is 0 and the distance is 1.

=============  =====================  ==========================  ===========================================
variant        row empty on both      distances                   distance beside that
               sides
=============  =====================  ==========================  ===========================================
leaderboard    skipped                mean over (scan, organ);    --
                                      both empty: skipped
page           counts as Dice 0       as ``leaderboard``          --
mle-bench      skipped                mean over scans, organs     1 where the prediction has over 10 times
                                      joined into one volume;     the voxels of the truth
                                      both empty: skipped
=============  =====================  ==========================  ===========================================

``page`` is the page to the letter, whose Dice formula leaves 0 for two empty masks; the page does not say what the
distance of empty volumes is, nor whether organs are joined, and there it follows ``leaderboard``. ``mle-bench``
follows the grader of the MLE-bench suite.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from gitract_kit.competition.hausdorff import as_masks, hausdorff_distance, hausdorff_within
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.paired_scans import ScanRows, Sizes, pair_scans
from gitract_kit.competition.rle import check_rle, rle_decode_batch
from gitract_kit.errors import DatasetError, InputError, RLEError, SettingsError, SubmissionError

__all__ = ["VARIANTS", "Score", "competition_score", "dice_coefficient", "hausdorff_distance"]

DICE_WEIGHT, HAUSDORFF_WEIGHT = 0.4, 0.6


@dataclass(frozen=True)
class _Variant:
    counts_empty_rows: bool
    joins_organs: bool
    most_voxels: float
    """Times the truth's voxels above which a prediction's distance is 1."""


_VARIANTS = {
    "leaderboard": _Variant(counts_empty_rows=False, joins_organs=False, most_voxels=np.inf),
    "page": _Variant(counts_empty_rows=True, joins_organs=False, most_voxels=np.inf),
    "mle-bench": _Variant(counts_empty_rows=False, joins_organs=True, most_voxels=10.0),
}
VARIANTS = tuple(_VARIANTS)
"""The names that :func:`competition_score` takes, the default first."""


@dataclass(frozen=True, eq=False)
class Score:
    """What :func:`competition_score` found; NaN stands where nothing was left to average."""

    variant: str
    """The rule it was made by, one of :data:`VARIANTS`."""
    total: float
    """0.4 x ``dice`` + 0.6 x (1 - ``hausdorff``)."""
    dice: float
    """Mean Dice over the rows that count."""
    hausdorff: float
    """Mean normalised distance over the volumes that count; lower is better."""
    by_organ: pd.DataFrame
    """Index organ; columns total, dice, hausdorff, rows, rows_both_empty, rows_one_empty.

    In ``mle-bench`` the distance of an organ is that of all organs joined."""
    by_scan: pd.DataFrame
    """Index scan; the columns of ``by_organ``."""
    parts: pd.DataFrame
    """A row for each scan and organ: scan, organ, dice_sum, dice_rows, hausdorff and the counts of ``by_organ``.

    What any other grouping is made of: Dice is the sum of dice_sum by that of dice_rows, the distance the mean."""
    rows: int
    """Rows (one slice, one organ) in both tables."""
    rows_both_empty: int
    """Rows without a pixel in either mask: skipped, or Dice 0 in ``page``."""
    rows_one_empty: int
    """Rows with pixels in one mask alone: Dice 0."""
    volumes: int
    """Distances that went into ``hausdorff``."""
    scans: int
    """Scans with at least one slice scored."""
    ids_only_in_truth: int
    """Slices left out because the prediction lacks them."""
    ids_only_in_prediction: int
    """Slices left out because the truth lacks them."""

    @property
    def ids_left_out(self) -> int:
        """Slices that one of the tables lacks."""
        return self.ids_only_in_truth + self.ids_only_in_prediction


def dice_coefficient(mask_true: np.ndarray, mask_pred: np.ndarray) -> float:
    """Twice the common voxels by the sum of both masks' voxels, 0 to 1; NaN where both are empty.

    The masks are ``(y, x)`` or ``(z, y, x)`` of one shape, bool or integers 0 and 1; an :class:`InputError` says what
    else was found.
    """
    mask_true, mask_pred = as_masks(mask_true, mask_pred, dimensions=(2, 3))
    voxels = np.count_nonzero(mask_true) + np.count_nonzero(mask_pred)
    return 2.0 * np.count_nonzero(mask_true & mask_pred) / voxels if voxels else float("nan")


def competition_score(
    truth: pd.DataFrame,
    prediction: pd.DataFrame,
    sizes: Sizes,
    variant: str = "leaderboard",
    *,
    organs: Sequence[str] = ORGANS,
    only_common: bool = False,
    workers: int | None = None,
) -> Score:
    """Score of a prediction, with its parts by organ and by scan.

    ``truth`` and ``prediction`` hold a row an id and organ: ``id``, ``class`` and the run-length string in
    ``segmentation`` or ``predicted``, "" or NaN for an empty mask. ``sizes`` maps an id to ``(height, width)`` in
    pixels, or is a table with ``id, height, width``, such as an index; it may know more ids. ``variant`` is a rule of
    the table above. Both tables must have the same ids, unless ``only_common`` asks for those that both have: the
    :class:`Score` then says how many were left out, and a scan keeps the depth of the truth's rows.

    Scans are decoded and scored one by one, ``workers`` at a time (all cores where None), so that memory does not grow
    with their number. Faults of the prediction are a :class:`SubmissionError`, of the truth and the sizes a
    :class:`DatasetError`, and an unknown variant is a :class:`SettingsError`.
    """
    if variant not in _VARIANTS:
        raise SettingsError(f"the variant is {variant!r}, expected one of {', '.join(VARIANTS)}")
    rule = _VARIANTS[variant]
    paired = pair_scans(truth, prediction, sizes, organs, only_common)
    # threads, not processes: nearly all of the time is spent inside numpy and scipy, which run side by side
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        parts = pd.concat(
            pool.map(partial(_score_scan, organs=organs, rule=rule), paired.scans), ignore_index=True
        )
    whole = _summarise(parts)
    return Score(
        variant=variant,
        **whole,
        by_organ=_summarise_by(parts, "organ"),
        by_scan=_summarise_by(parts, "scan"),
        parts=parts,
        volumes=int(parts["hausdorff"].notna().sum()) // (len(organs) if rule.joins_organs else 1),
        scans=len(paired.scans),
        ids_only_in_truth=paired.ids_only_in_truth,
        ids_only_in_prediction=paired.ids_only_in_prediction,
    )


def _score_scan(scan: ScanRows, organs: Sequence[str], rule: _Variant) -> pd.DataFrame:
    """``Score.parts`` of one scan."""
    parts, slices = [], []
    for k, organ in enumerate(organs):
        z, masks_true, masks_pred = _decode(scan, k, organ)
        part = {
            "scan": scan.name,
            "organ": organ,
            **_dice_of_rows(masks_true, masks_pred, len(scan.ids), rule),
        }
        slices.append((z, masks_true, masks_pred))
        if not rule.joins_organs:
            part["hausdorff"] = _distance([slices.pop()], scan.extent, rule)
        parts.append(part)
    if rule.joins_organs:
        joined = _distance(slices, scan.extent, rule)
        parts = [{**part, "hausdorff": joined} for part in parts]
    return pd.DataFrame(parts)


def _decode(scan: ScanRows, k: int, organ: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places in z of the slices with a mask of the organ on either side, and both sides' masks of them."""
    rles_true, rles_pred = scan.rles_true[:, k], scan.rles_pred[:, k]
    drawn = np.flatnonzero((rles_true != "") | (rles_pred != ""))
    masks = []
    for rles, error in ((rles_true, DatasetError), (rles_pred, SubmissionError)):
        try:
            masks.append(rle_decode_batch(rles[drawn], scan.extent[1:]))
        except RLEError:
            _raise_first_fault(scan, rles, organ, error)
    return scan.z[drawn], masks[0], masks[1]


def _raise_first_fault(scan: ScanRows, rles: np.ndarray, organ: str, error: type[InputError]) -> None:
    side = "the truth" if error is DatasetError else "the prediction"
    for slice_id, rle in zip(scan.ids, rles, strict=True):
        try:
            check_rle(rle, scan.extent[1:])
        except RLEError as fault:
            raise error(f"{side}'s mask of {organ} in {slice_id}: {fault}") from fault


def _dice_of_rows(
    masks_true: np.ndarray, masks_pred: np.ndarray, rows: int, rule: _Variant
) -> dict[str, float]:
    n_true, n_pred, n_common = (
        np.array([np.count_nonzero(mask) for mask in masks], dtype=np.int64)
        for masks in (masks_true, masks_pred, masks_true & masks_pred)
    )
    drawn = np.count_nonzero(n_true + n_pred)
    return {
        "dice_sum": float((2.0 * n_common / np.maximum(n_true + n_pred, 1)).sum()),
        "dice_rows": rows if rule.counts_empty_rows else drawn,
        "rows": rows,
        "rows_both_empty": rows - drawn,
        "rows_one_empty": np.count_nonzero((n_true == 0) != (n_pred == 0)),
    }


def _distance(
    slices: list[tuple[np.ndarray, np.ndarray, np.ndarray]], extent: tuple[int, int, int], rule: _Variant
) -> float:
    """Hausdorff distance of the volumes that the slices of one organ, or of several, make up."""
    places = np.concatenate([z for z, _, _ in slices])
    if not places.size:
        return float("nan")
    bottom, top = places.min(), places.max()
    volumes = np.zeros((2, top - bottom + 1, *extent[1:]), dtype=bool)
    for z, *masks in slices:
        for volume, mask in zip(volumes, masks, strict=True):
            volume[z - bottom] |= mask
    n_true, n_pred = map(np.count_nonzero, volumes)
    if n_true and n_pred > rule.most_voxels * n_true:
        return 1.0
    return hausdorff_within(*volumes, extent)


def _summarise(parts: pd.DataFrame) -> dict[str, float]:
    sums = parts[["dice_sum", "dice_rows", "rows", "rows_both_empty", "rows_one_empty"]].sum()
    dice = float(sums["dice_sum"] / sums["dice_rows"]) if sums["dice_rows"] else float("nan")
    hausdorff = float(parts["hausdorff"].mean())
    return {
        "total": DICE_WEIGHT * dice + HAUSDORFF_WEIGHT * (1.0 - hausdorff),
        "dice": dice,
        "hausdorff": hausdorff,
        **{count: int(sums[count]) for count in ("rows", "rows_both_empty", "rows_one_empty")},
    }


def _summarise_by(parts: pd.DataFrame, column: str) -> pd.DataFrame:
    groups = [{column: name, **_summarise(group)} for name, group in parts.groupby(column, sort=False)]
    return pd.DataFrame(groups).set_index(column)
