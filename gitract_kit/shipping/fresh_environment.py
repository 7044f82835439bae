"""A fresh virtual environment that holds what Kaggle's image holds, and nothing of what the wheels have to bring.

The packages are linked from an environment that is there, so that it is made in seconds and without a network: the
present one, whose versions are not the image's, or one that `create_image_environment` made for another Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gitract_kit.errors import GitractError, SettingsError
from gitract_kit.shipping.image_packages import read_image_packages

__all__ = ["Interpreter", "create_fresh_environment", "create_image_environment", "find_interpreter"]

# beyond what the kit asks for: what its wheels do, and what executes a notebook
_NEEDED_TOO = ("torchvision", "pillow", "huggingface-hub", "ipykernel")
_ASK = "import json, sys; print(json.dumps(['%d.%d.%d' % sys.version_info[:3], sys.path]))"


@dataclass(frozen=True)
class Interpreter:
    """A Python that is here, and the packages that it sees."""

    path: Path
    version: str
    """In full, ``3.12.1``."""
    search: tuple[str, ...]
    """Where it looks for packages."""

    @cached_property
    def packages(self) -> Mapping[str, Distribution]:
        """What is installed for it, by canonical name."""
        found: dict[str, Distribution] = {}
        for one in distributions(path=list(self.search)):
            # the first on the path is the one that is imported
            found.setdefault(canonicalize_name(one.metadata["Name"]), one)
        return found

    @property
    def site_packages(self) -> Path:
        """Where a virtual environment of it holds its packages."""
        return self.path.parent.parent / "lib" / f"python{self.version.rpartition('.')[0]}" / "site-packages"

    def describe(self) -> str:
        """``Python 3.12.1, torch 2.10.0 (image 2.10 to 2.11), ...``: of what the image's version is reported."""
        image = read_image_packages()
        told = [
            f"{name} {self.packages[name].version} (image {image.describe(name)})"
            for name in ("torch", "timm", "albumentations", "numpy", "pandas", "opencv-python-headless")
            if name in self.packages
        ]
        return ", ".join([f"Python {self.version}", *told])


def find_interpreter(wanted: str | Path) -> Interpreter:
    """Return the Python that ``wanted`` names: a version such as ``3.12``, on the PATH or of pyenv, or its path.

    One that is not here is a `SettingsError`.
    """
    if Path(wanted).is_file():
        return _ask(Path(wanted).absolute())
    places = [shutil.which(f"python{wanted}"), *_find_in_pyenv(str(wanted))]
    for place in filter(None, places):
        try:
            return _ask(Path(place))
        # a shim of pyenv's is there for versions that are not switched on, too
        except SettingsError:
            continue
    raise SettingsError(
        f"there is no Python {wanted} here, neither python{wanted} on the PATH nor one of pyenv's: install it (`pyenv "
        f"install {wanted}`), or give the path of its interpreter"
    )


def _find_in_pyenv(version: str) -> list[str]:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python"), reverse=True)]


def _ask(python: Path) -> Interpreter:
    # isolated: what leads this process to its packages must not lead that one there
    done = subprocess.run([str(python), "-I", "-c", _ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(f"{python} is no Python that runs ({done.stderr.strip()[-200:]}); give another")
    version, search = json.loads(done.stdout)
    return Interpreter(python, version, tuple(filter(None, search)))


def create_image_environment(folder: Path, python: Interpreter) -> Interpreter:
    """Make ``folder`` a virtual environment of ``python`` with the image's packages and return its interpreter.

    Those that the kit asks for, and what they need, in versions within the image's recorded ones, are installed with
    pip, from the network: several GB.
    """
    image = read_image_packages()
    _run([str(python.path), "-m", "venv", str(folder)])
    constraints = folder / "image-constraints.txt"
    constraints.write_text("\n".join(image.constraints()) + "\n", encoding="utf-8")
    asked = [Requirement(text) for text in requires("gitract-kit") or ()]
    names = [
        one.name for one in asked if one.marker is None and canonicalize_name(one.name) in image.versions
    ]
    made = folder / "bin" / "python"
    options = [
        "--only-binary=:all:",
        "--quiet",
        "--disable-pip-version-check",
        "--constraint",
        str(constraints),
    ]
    _run([str(made), "-m", "pip", "install", *options, *names, *_NEEDED_TOO])
    return _ask(made)


def create_fresh_environment(folder: Path, image: Interpreter | None = None) -> Path:
    """Make ``folder`` a virtual environment and return its interpreter.

    In it are those of the image's recorded packages that ``image`` has, and what they need; None takes the present
    environment.
    """
    image = image or _ask(Path(sys.executable))
    if "pip" not in image.packages:
        raise GitractError(f"{image.path} has no pip, which a fresh environment takes over: install pip")
    _run([str(image.path), "-m", "venv", "--without-pip", "--symlinks", str(folder)])
    made = folder / "bin" / "python"
    place = Interpreter(made, image.version, ()).site_packages
    for name in _with_what_they_need(read_image_packages().versions, image):
        _link(image.packages[name], place)
    return made


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise GitractError(
            f"`{' '.join(command[:4])} ...` failed: {(done.stderr or done.stdout).strip()[-800:]}"
        )


def _with_what_they_need(names: Iterable[str], image: Interpreter) -> set[str]:
    found: set[str] = set()
    python = {"extra": "", "python_full_version": image.version}
    python["python_version"] = image.version.rpartition(".")[0]
    waiting = [name for name in names if name in image.packages]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        requirements = [Requirement(text) for text in image.packages[name].requires or ()]
        needed = [
            canonicalize_name(one.name)
            for one in requirements
            if one.marker is None or one.marker.evaluate(python)
        ]
        waiting += [one for one in needed if one in image.packages]
    return found


def _link(distribution: Distribution, place: Path) -> None:
    """Link the top of everything that the distribution installed beside itself; scripts stay where they are."""
    tops = {Path(file).parts[0] for file in distribution.files or () if ".." not in Path(file).parts}
    for top in tops - {"__pycache__"}:
        source = Path(str(distribution.locate_file(top)))
        # several packages share folders such as nvidia/
        if source.exists() and not (place / top).exists():
            (place / top).symlink_to(source.resolve())
