"""What a competition calls its classes and its files: data, not code.

Every room above this one takes its class names from a :class:`Layout`, from settings or from a
bundle, and none of them counts on there being three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gitract_kit.errors import SettingsError
from gitract_kit.strict import nearest

__all__ = [
    "IMAGE_MASK",
    "INDEX_COLUMNS",
    "LAYOUTS",
    "ORGANS",
    "UW_MADISON",
    "Layout",
    "layout_of",
]

INDEX_COLUMNS = (
    "id",
    "case",
    "day",
    "scan",
    "slice",
    "path",
    "width",
    "height",
    "spacing_x_mm",
    "spacing_y_mm",
    "bad_scan",
)
"""What an index says of a slice, in any layout; a column an organ follows where the masks are known."""


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
    test_folder: str = "test"
    """Where in the competition folder the test's slices are."""
    sample: str | None = "sample_submission.csv"
    """The file that says which rows a submission of the test has; None where every slice has its rows."""
    mask_values: tuple[int, ...] = ()
    """What each organ's pixels are in a mask picture; () where masks are run lengths in a table."""
    spacing_known: bool = True
    """Whether the files say how far apart pixels are; where they do not, 1 mm stands for it."""

    def __str__(self) -> str:
        values = f", {', '.join(map(str, self.mask_values))} in masks" if self.mask_values else ""
        return f"{', '.join(self.organs)} of {self.name}{values}"


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

IMAGE_MASK = Layout(
    name="image-mask",
    organs=("mask",),
    competition_slug="",
    test_folder="Test/Image",
    sample=None,
    mask_values=(255,),
    spacing_known=False,
)
"""Folders of pictures; what the classes are is read off the masks (`image_mask`)."""

LAYOUTS: Mapping[str, Layout] = {one.name: one for one in (UW_MADISON, IMAGE_MASK)}

ORGANS: tuple[str, ...] = UW_MADISON.organs
"""The three organs, in the order of a slice's rows (competition page)."""


def layout_of(name: str, organs: Sequence[str], mask_values: Sequence[int]) -> Layout:
    """Return the layout of a work folder, a run or a bundle; one that this kit lacks is a `SettingsError`."""
    if name not in LAYOUTS:
        raise SettingsError(f"no layout is called {name!r}{nearest(name, LAYOUTS)}")
    return replace(LAYOUTS[name], organs=tuple(organs), mask_values=tuple(mask_values))
