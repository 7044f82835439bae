"""How the competition names its slices, scans and files, and what the names say.

    train/case123/case123_day20/scans/slice_0065_360_310_1.50_1.50.png
          └ case  └ scan              └ slice, WIDTH, HEIGHT in pixels, spacing x, y in mm

and the id of that slice in the tables is ``case123_day20_slice_0065``. Width comes first (measured: the runs
of a ``_360_310_`` slice wrap at 360; the host's tools read it so too). Every name here parses into numbers
and prints back into the same text; text that would not is refused, so that no two names mean one slice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gitract_kit.errors import DatasetError

__all__ = ["ScanName", "SliceFile", "SliceName", "natural_key", "parse_case"]

# [0-9] and not \d, which takes other scripts' digits too
_NUMBER = "(0|[1-9][0-9]{0,8})"
_PIXELS = "([1-9][0-9]{0,4})"
_SPACING = r"([1-9][0-9]{0,2}\.[0-9]{2}|0\.0[1-9]|0\.[1-9][0-9])"
_CASE = re.compile(f"case{_NUMBER}")
_SCAN = re.compile(f"case{_NUMBER}_day{_NUMBER}")
_SLICE = re.compile(f"case{_NUMBER}_day{_NUMBER}_slice_([0-9]{{4}})")
_FILE = re.compile(f"slice_([0-9]{{4}})_{_PIXELS}_{_PIXELS}_{_SPACING}_{_SPACING}\\.png")


def parse_case(text: str) -> int:
    """The number in a case's name: 123 for ``case123``."""
    return int(_match(_CASE, text, "a case's name, such as case123")[0])


def natural_key(text: str) -> tuple[tuple[int, str], ...]:
    """What sorts names by the numbers in them: ``picture2`` before ``picture10``, ``case9`` before ``case10``."""
    parts = re.split("([0-9]+)", text)
    # the text itself last: 07 and 7 are not one name
    return (*((int(part), "") if part.isdecimal() else (-1, part) for part in parts), (-1, text))


@dataclass(frozen=True, order=True)
class ScanName:
    """A scan: one case on one day. Sorts by number, not by text."""

    case: int
    day: int

    @classmethod
    def parse(cls, text: str) -> ScanName:
        """Read ``case123_day20``; a :class:`DatasetError` for any other form."""
        return cls(*map(int, _match(_SCAN, text, "a scan's name, such as case123_day20")))

    def __str__(self) -> str:
        return f"case{self.case}_day{self.day}"


@dataclass(frozen=True, order=True)
class SliceName:
    """A slice, as the ``id`` column of the tables names it. Sorts by number, not by text."""

    case: int
    day: int
    slice: int

    @classmethod
    def parse(cls, text: str) -> SliceName:
        """Read ``case123_day20_slice_0065``; a :class:`DatasetError` for any other form."""
        return cls(*map(int, _match(_SLICE, text, "a slice's id, such as case123_day20_slice_0065")))

    @property
    def scan(self) -> ScanName:
        """The scan that the slice belongs to."""
        return ScanName(self.case, self.day)

    def __str__(self) -> str:
        return f"case{self.case}_day{self.day}_slice_{self.slice:04d}"


@dataclass(frozen=True, order=True)
class SliceFile:
    """What the name of a slice's file says: its number, its size in pixels and its spacing."""

    slice: int
    width: int
    height: int
    spacing_x_mm: float
    spacing_y_mm: float

    @classmethod
    def parse(cls, text: str) -> SliceFile:
        """Read ``slice_0065_360_310_1.50_1.50.png``; a :class:`DatasetError` for any other form."""
        number, width, height, *spacing = _match(
            _FILE, text, "a slice's file, such as slice_0065_360_310_1.50_1.50.png (width before height)"
        )
        return cls(int(number), int(width), int(height), *map(float, spacing))

    def __str__(self) -> str:
        spacing = f"{self.spacing_x_mm:.2f}_{self.spacing_y_mm:.2f}"
        return f"slice_{self.slice:04d}_{self.width}_{self.height}_{spacing}.png"


def _match(pattern: re.Pattern[str], text: str, expected: str) -> tuple[str, ...]:
    match = pattern.fullmatch(text)
    if match is None:
        raise DatasetError(f"{text[:100]!r} is not {expected}")
    return match.groups()
