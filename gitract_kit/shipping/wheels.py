"""The wheels that Kaggle's image lacks, for the Pythons it runs, with a hashed lock: installed without internet.

DIR/
    gitract_kit-0.1.0-py3-none-any.whl ...     this package and what the image has not
    requirements.lock                          one line a package, with every hash
    wheels.json                                which file is for which Python
    install.py                                 what the notebook runs
    dataset-metadata.json, README.md           a Kaggle dataset as it stands
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import Parser
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from gitract_kit.errors import DatasetError, GitractError, SettingsError
from gitract_kit.files import write_text_atomic
from gitract_kit.shipping.dataset import write_dataset_files
from gitract_kit.shipping.image_packages import ImagePackages, read_image_packages
from gitract_kit.shipping.install_wheels import INSTALL, LOCK, MANIFEST

__all__ = ["Wheel", "WheelSet", "create_wheels"]

FORMAT = 1
IMPORTS = ("gitract_kit", "segmentation_models_pytorch")
"""What the notebook imports once the wheels are in."""

_NEVER = re.compile(r"torch|torchvision|torchaudio|numpy|opencv-.*|nvidia-.*|triton")
# pip matches tags exactly: each that the image's glibc can load has to be named
_PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 26, 24, 17, 12, 5)),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
)
_PYTHON = re.compile(r"3\.\d+")
_SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "gitract_kit")
# of all files in the wheel, so that the same sources give the same bytes
_SOURCE_DATE = "1735689600"


@dataclass(frozen=True)
class Wheel:
    """One wheel of a set."""

    path: Path
    pythons: tuple[str, ...]
    """The Pythons that it is installed on."""

    @property
    def name(self) -> str:
        """The package's name, in its canonical form."""
        return parse_wheel_filename(self.path.name)[0]

    @property
    def version(self) -> str:
        """The package's version."""
        return str(parse_wheel_filename(self.path.name)[1])

    @property
    def sha256(self) -> str:
        """Of the file."""
        return sha256(self.path.read_bytes()).hexdigest()

    @property
    def requirements(self) -> list[Requirement]:
        """What its metadata asks for."""
        metadata = Parser().parsestr(self._read("METADATA").decode("utf-8"))
        return [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]

    @property
    def distribution(self) -> str:
        """``NAME-VERSION`` as its dist-info folder is called."""
        return "-".join(self.path.name.split("-")[:2])

    def describe(self) -> dict[str, object]:
        """Its entry of ``wheels.json``."""
        return {
            "file": self.path.name,
            "name": self.name,
            "version": self.version,
            "distribution": self.distribution,
            "pythons": list(self.pythons),
            "bytes": self.path.stat().st_size,
            "sha256": self.sha256,
            "record_sha256": sha256(self._read("RECORD")).hexdigest(),
        }

    def _read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(f"{self.distribution}.dist-info/{name}")


@dataclass(frozen=True)
class WheelSet:
    """What `create_wheels` wrote."""

    folder: Path
    wheels: tuple[Wheel, ...]
    pythons: tuple[str, ...]
    assumed: tuple[str, ...] = ()
    """What is left to the image though its version there is not known: requirements, and who asks for them."""

    def __str__(self) -> str:
        lines = [
            f"{wheel.path.name}  {wheel.path.stat().st_size / 1e6:.2f} MB, Python {', '.join(wheel.pythons)}"
            for wheel in self.wheels
        ]
        assumed = [f"left to the image, whose version is not known: {one}" for one in self.assumed]
        whole = f"{self.folder}: {len(lines)} wheels for Python {', '.join(self.pythons)}"
        return "\n".join([*lines, *assumed, whole])


def create_wheels(out: str | Path, pythons: Sequence[str], *, source: str | Path | None = None) -> WheelSet:
    """Write into the new folder ``out`` what Kaggle's image lacks to run this package on ``pythons`` ("3.13").

    The package is built from ``source``, a clone of this repository: None takes the one it is imported from. What
    it needs beyond the image's recorded packages is downloaded as wheels, never as source archives, without
    their own dependencies, which are looked at in turn. What has to be the image's own, such as torch, is never among
    them: where the image's is too old, or a package has no wheel, a `GitractError` says which. ``out`` appears whole.
    """
    out, pythons = Path(out), _check_pythons(pythons)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} is not empty; give a new folder or remove it")
    image = read_image_packages()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as place:
        folder = Path(place) / "wheels"
        folder.mkdir()
        own = _build_own(Path(source) if source else Path(__file__).parents[2], folder)
        wheels = _collect(own, folder, pythons, image)
        _write_about(folder, wheels, pythons, image)
        if out.exists():
            out.rmdir()
        folder.rename(out)
    placed = tuple(Wheel(out / wheel.path.name, wheel.pythons) for wheel in wheels)
    return WheelSet(out, placed, pythons, _find_assumed(placed, image))


def lock_lines(wheels: Sequence[Wheel], pythons: Sequence[str]) -> list[str]:
    """Return ``requirements.lock``: a line a package and version, with the hashes of all its wheels.

    A marker tells the Pythons apart where they get other versions.
    """
    by_version: dict[tuple[str, str], list[Wheel]] = {}
    for wheel in wheels:
        by_version.setdefault((wheel.name, wheel.version), []).append(wheel)
    lines = []
    for (name, number), same in sorted(by_version.items()):
        used = sorted({python for wheel in same for python in wheel.pythons})
        marker = (
            "" if set(used) == set(pythons) else " or ".join(f'python_version == "{one}"' for one in used)
        )
        hashes = "".join(f" --hash=sha256:{wheel.sha256}" for wheel in same)
        lines.append(f"{name}=={number}{f' ; {marker}' if marker else ''}{hashes}")
    return lines


def _check_pythons(pythons: Sequence[str]) -> tuple[str, ...]:
    wrong = [python for python in pythons if not _PYTHON.fullmatch(python)]
    if wrong or not pythons:
        raise SettingsError(f"the Pythons are {list(pythons)}, expected versions such as 3.12 and 3.13")
    return tuple(sorted(set(pythons), key=lambda python: int(python.partition(".")[2])))


def _build_own(source: Path, folder: Path) -> Path:
    """The wheel of this package, built from a copy: an old build folder beside the sources would get into it."""
    if not (source / "setup.py").is_file():
        raise DatasetError(
            f"{source} is no clone of the kit: it has no setup.py; run it in a clone, or name one"
        )
    with tempfile.TemporaryDirectory(prefix="gitract-") as place:
        for name in _SOURCES:
            _copy(source / name, Path(place) / name)
        isolated = ["--no-build-isolation"] if _can_build_here() else []
        _pip("wheel", "--no-deps", *isolated, "--wheel-dir", str(folder), place)
    (built,) = folder.glob("*.whl")
    return built


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)


def _can_build_here() -> bool:
    try:
        installed = Version(version("setuptools"))
    except PackageNotFoundError:
        return False
    # from then on it makes wheels by itself
    return installed >= Version("70.1")


def _collect(own: Path, folder: Path, pythons: Sequence[str], image: ImagePackages) -> list[Wheel]:
    files: dict[Path, list[str]] = {}
    for python in pythons:
        for path in _closure(own, folder, python, image):
            files.setdefault(path, []).append(python)
    return [Wheel(path, tuple(used)) for path, used in sorted(files.items())]


def _closure(own: Path, folder: Path, python: str, image: ImagePackages) -> list[Path]:
    """``own`` and every wheel that it needs, directly or not, beyond the image's packages."""
    found = {Wheel(own, ()).name: own}
    waiting = [own]
    while waiting:
        asking = Wheel(waiting.pop(0), (python,))
        for requirement in asking.requirements:
            name = canonicalize_name(requirement.name)
            if name in found or not _applies(requirement, python) or image.satisfies(requirement):
                continue
            if _NEVER.fullmatch(name):
                raise GitractError(
                    f"{asking.name} {asking.version} needs {requirement}, the image has {image.describe(name)}: the "
                    "image's own must stay; lower the bound"
                )
            found[name] = _download(requirement, python, folder)
            waiting.append(found[name])
    return list(found.values())


def _find_assumed(wheels: Sequence[Wheel], image: ImagePackages) -> tuple[str, ...]:
    return tuple(
        f"{requirement.name}{requirement.specifier} for {wheel.name}"
        for wheel in wheels
        for requirement in wheel.requirements
        if any(_applies(requirement, python) for python in wheel.pythons) and image.only_assumed(requirement)
    )


def _applies(requirement: Requirement, python: str) -> bool:
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "sys_platform": "linux",
        "extra": "",
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def _download(requirement: Requirement, python: str, folder: Path) -> Path:
    platforms = [option for platform in _PLATFORMS for option in ("--platform", platform)]
    target = ["--only-binary=:all:", "--python-version", python, *platforms]
    wanted = f"{requirement.name}{requirement.specifier}"
    with tempfile.TemporaryDirectory(prefix="gitract-") as place:
        _pip("download", "--no-deps", *target, "--dest", place, wanted)
        (path,) = Path(place).glob("*.whl")
        shutil.copyfile(path, folder / path.name)
    return folder / path.name


def _pip(*arguments: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "SOURCE_DATE_EPOCH": _SOURCE_DATE}
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=environment,
    )
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            "no reason given"
        ]
        raise GitractError(
            f"`pip {arguments[0]} {arguments[-1]}` failed: {' '.join(reasons)[-600:]}; only wheels are taken, and "
            "the network is needed to get them"
        )


def _write_about(folder: Path, wheels: Sequence[Wheel], pythons: Sequence[str], image: ImagePackages) -> None:
    lock = "\n".join(lock_lines(wheels, pythons)) + "\n"
    install = Path(__file__).with_name("install_wheels.py").read_text(encoding="utf-8")
    files = {LOCK: lock, INSTALL: install}
    for name, text in files.items():
        write_text_atomic(folder / name, text)
    manifest = {
        "format": FORMAT,
        "pythons": list(pythons),
        "image_packages_recorded": image.recorded,
        "left_to_the_image_unknown": list(_find_assumed(wheels, image)),
        "imports": list(IMPORTS),
        "wheels": [wheel.describe() for wheel in wheels],
        "files": {name: sha256(text.encode("utf-8")).hexdigest() for name, text in files.items()},
    }
    write_text_atomic(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    held = ", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels)
    write_dataset_files(
        folder,
        "gitract-wheels",
        f"{held}, for Python {' and '.join(pythons)} on Linux x86_64: what Kaggle's image of {image.recorded} lacks."
        "\n\n"
        "`install.py` installs them without internet. Each package is under its own licence, which its wheel holds.",
    )
