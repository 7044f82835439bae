"""What Kaggle's notebook image holds already, as recorded in ``image_packages.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["ImagePackages", "read_image_packages"]


@dataclass(frozen=True)
class ImagePackages:
    """The image's packages, as far as the kit could need them."""

    recorded: str
    """Year and month of the record."""
    versions: Mapping[str, str | None]
    """By canonical name; None where the package is there and its version was not recorded."""

    def satisfies(self, requirement: Requirement) -> bool:
        """Return whether the image has what ``requirement`` asks for; an unknown version is taken to be enough."""
        name = canonicalize_name(requirement.name)
        if name not in self.versions:
            return False
        version = self.versions[name]
        return version is None or requirement.specifier.contains(version, prereleases=True)

    def describe(self, name: str) -> str:
        """``2.10``, or that it has none."""
        return self.versions.get(name) or ("one of unknown version" if name in self.versions else "none")


def read_image_packages() -> ImagePackages:
    """Return the record that is part of this package."""
    record = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return ImagePackages(record["recorded"], record["packages"])
