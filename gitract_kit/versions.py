"""What is installed: which versions a run, a prediction or a question about a bug was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from gitract_kit import __version__

__all__ = ["package_versions"]

_PACKAGES = (
    "torch",
    "timm",
    "segmentation-models-pytorch",
    "albumentations",
    "numpy",
    "pandas",
    "scipy",
    "opencv-python-headless",
)


def package_versions() -> dict[str, str]:
    """Return the versions of the kit, of Python and of the packages that numbers come from.

    ``unknown`` is a package that is there by another name (``opencv-python``) or not at all.
    """
    found = {name: _version(name) for name in _PACKAGES}
    return {"gitract-kit": __version__, "python": platform.python_version(), **found}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
