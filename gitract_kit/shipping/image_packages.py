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
    versions: Mapping[str, tuple[str, ...]]
    """By canonical name: the version, or the lowest and the highest of the images that were live; none where the
    package is there and its version is not known."""

    def satisfies(self, requirement: Requirement) -> bool:
        """Return whether every image has what ``requirement`` asks for; an unknown version is taken to be enough."""
        versions = self.versions.get(canonicalize_name(requirement.name))
        return versions is not None and all(
            requirement.specifier.contains(version, prereleases=True) for version in versions
        )

    def only_assumed(self, requirement: Requirement) -> bool:
        """Return whether the package is there in an unknown version and ``requirement`` asks for a certain one."""
        return self.versions.get(canonicalize_name(requirement.name)) == () and bool(requirement.specifier)

    def describe(self, name: str) -> str:
        """``2.10``, ``2.10 to 2.11``, or that it has none."""
        if name not in self.versions:
            return "none"
        return " to ".join(self.versions[name]) or "one of unknown version"

    def constraints(self) -> list[str]:
        """Return pip's constraints for the versions that are known, ``numpy>=2.0,<2.2`` for 2.0 to 2.1."""
        return [f"{name}>={known[0]},<{_after(known[-1])}" for name, known in self.versions.items() if known]


def _after(version: str) -> str:
    """The first version that is not ``version`` or one of its own: 2.2 after 2.1, 2.0.9 after 2.0.8."""
    *head, last = version.split(".post")[0].split(".")
    return ".".join([*head, str(int(last) + 1)])


def read_image_packages() -> ImagePackages:
    """Return the record that is part of this package."""
    record = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    versions = {
        **dict.fromkeys(record["seen"]["packages"], ()),
        **{name: (version,) for name, version in record["base"]["packages"].items()},
        **{name: tuple(known) for name, known in record["reported"]["packages"].items()},
    }
    return ImagePackages(record["recorded"], dict(sorted(versions.items())))
