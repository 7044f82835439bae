"""What a competition calls its classes and its files: data, not code.

Every room above this one takes its class names from a :class:`Layout`, from settings or from a
bundle, and none of them counts on there being three.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ORGANS", "UW_MADISON", "Layout"]


@dataclass(frozen=True)
class Layout:
    """The names one competition uses."""

    name: str
    """Identifies the layout in settings and bundles."""
    organs: tuple[str, ...]
    """Class names in the order of the rows of one slice."""
    competition_slug: str
    """The slug under which Kaggle mounts the competition."""
    bad_scans: tuple[str, ...] = ()
    """Scans (``case_day``) whose labels the host lists as wrong."""


# The host's list of scans with bad labels (published data tools).
_HOST_BAD_SCANS = (
    "case61_day14",
    "case9_day27",
    "case7_day0",
    "case81_day30",
    "case43_day18",
    "case138_day0",
    "case34_day20",
    "case43_day26",
    "case124_day19",
    "case144_day15",
    "case83_day11",
    "case13_day0",
)

UW_MADISON = Layout(
    name="uw-madison",
    organs=("large_bowel", "small_bowel", "stomach"),
    competition_slug="uw-madison-gi-tract-image-segmentation",
    bad_scans=_HOST_BAD_SCANS,
)

ORGANS: tuple[str, ...] = UW_MADISON.organs
"""The three organs, in the order of a slice's rows (competition page)."""
