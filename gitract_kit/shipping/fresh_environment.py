"""A fresh virtual environment that holds what Kaggle's image holds, and nothing of what the wheels have to bring.

The packages are linked from the present environment, so that it is made in a second and without a network; their
versions are the present ones, not the image's.
"""

from __future__ import annotations

import sysconfig
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gitract_kit.errors import GitractError
from gitract_kit.shipping.image_packages import read_image_packages

__all__ = ["create_fresh_environment"]


def create_fresh_environment(folder: Path) -> Path:
    """Make ``folder`` a virtual environment of the present Python and return its interpreter.

    In it are those of the image's recorded packages that the present environment has, and what they need.
    """
    environment = venv.EnvBuilder(symlinks=True, with_pip=False)
    environment.create(folder)
    place = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    present = {canonicalize_name(one.metadata["Name"]): one for one in distributions()}
    if "pip" not in present:
        raise GitractError("the present environment has no pip, which a fresh one takes over: install pip")
    for name in _with_what_they_need(read_image_packages().versions, present):
        _link(present[name], place)
    return folder / "bin" / "python"


def _with_what_they_need(names: Iterable[str], present: dict[str, Distribution]) -> set[str]:
    found: set[str] = set()
    waiting = [name for name in names if name in present]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        requirements = [Requirement(text) for text in present[name].requires or ()]
        needed = [
            canonicalize_name(one.name)
            for one in requirements
            if one.marker is None or one.marker.evaluate({"extra": ""})
        ]
        waiting += [one for one in needed if one in present]
    return found


def _link(distribution: Distribution, place: Path) -> None:
    """Link the top of everything that the distribution installed beside itself; scripts stay where they are."""
    tops = {Path(file).parts[0] for file in distribution.files or () if ".." not in Path(file).parts}
    for top in tops - {"__pycache__"}:
        source = Path(str(distribution.locate_file(top)))
        # several packages share folders such as nvidia/
        if source.exists() and not (place / top).exists():
            (place / top).symlink_to(source.resolve())
