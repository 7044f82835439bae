"""Is a folder that travels to Kaggle whole: a bundle or a set of wheels, here or in the notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from gitract_kit.errors import BundleError, DatasetError
from gitract_kit.shipping.dataset import README
from gitract_kit.shipping.install_wheels import INSTALL, LOCK
from gitract_kit.shipping.install_wheels import MANIFEST as WHEELS_MANIFEST
from gitract_kit.shipping.kaggle_metadata import DATASET_METADATA
from gitract_kit.shipping.manifest import MANIFEST as BUNDLE_MANIFEST
from gitract_kit.shipping.manifest import read_json, read_manifest

__all__ = ["VerifyReport", "verify_folder"]

_CHUNK = 2**20
_BESIDE = (DATASET_METADATA, README)


@dataclass(frozen=True)
class VerifyReport:
    """What a folder that passed holds."""

    folder: Path
    kind: str
    """``bundle`` or ``wheels``."""
    files: tuple[str, ...]
    """Files whose hash was compared."""
    total_bytes: int
    """Of those files."""

    def __str__(self) -> str:
        return (
            f"{self.folder}: {self.kind}, {len(self.files)} files, {self.total_bytes / 1e6:.1f} MB, each as it was "
            "written"
        )


def verify_folder(folder: str | Path) -> VerifyReport:
    """Return what ``folder`` holds once every file listed in it is there with the sha256 it was written with.

    A bundle has ``bundle.json``, a set of wheels ``wheels.json``. No weights are loaded. A `BundleError` or
    `DatasetError` tells all faults, each with its file: missing, altered and unlisted files. What Kaggle
    would refuse is `check_dataset`'s business.
    """
    folder = Path(folder)
    if (folder / BUNDLE_MANIFEST).is_file():
        kind, error, listed, own = "bundle", BundleError, _bundle_files(folder), (BUNDLE_MANIFEST,)
    elif (folder / WHEELS_MANIFEST).is_file():
        kind, error, listed = "wheels", DatasetError, _wheel_files(folder)
        own = (WHEELS_MANIFEST,)
    else:
        raise DatasetError(
            f"{folder} holds neither {BUNDLE_MANIFEST} nor {WHEELS_MANIFEST}; give what `gitract bundle` or "
            "`gitract wheels` wrote"
        )
    faults = [
        *_file_faults(folder, listed),
        *_unlisted(folder, {*listed, *own, *_BESIDE}),
    ]
    if faults:
        raise error("; ".join(faults))
    total = sum((folder / name).stat().st_size for name in listed)
    return VerifyReport(folder, kind, tuple(listed), total)


def _bundle_files(folder: Path) -> dict[str, str]:
    return {entry["weights"]: entry["sha256"] for entry in read_manifest(folder)["members"]}


def _wheel_files(folder: Path) -> dict[str, str]:
    path = folder / WHEELS_MANIFEST
    manifest: Mapping[str, Any] = read_json(path, "write it again with `gitract wheels`")
    try:
        wheels = {entry["file"]: entry["sha256"] for entry in manifest["wheels"]}
        listed = {**wheels, **{name: manifest["files"][name] for name in (LOCK, INSTALL)}}
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path}: lacks {error}; write it again with `gitract wheels`") from error
    if not all(isinstance(value, str) for pair in listed.items() for value in pair):
        raise DatasetError(
            f"{path}: holds a name or sha256 that is no text; write it again with `gitract wheels`"
        )
    return listed


def _file_faults(folder: Path, listed: Mapping[str, str]) -> list[str]:
    faults = []
    for name, digest in listed.items():
        path = folder / name
        if not path.is_file():
            faults.append(f"{path} is missing: copy it again")
        elif (found := _hash(path)) != digest:
            faults.append(f"{path}: its sha256 is {found[:12]}..., expected {digest[:12]}...: copy it again")
    return faults


def _hash(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _unlisted(folder: Path, known: set[str]) -> list[str]:
    return [
        f"{path} is not of this folder: remove it"
        for path in sorted(folder.iterdir())
        if path.name not in known and path.is_file() and not path.name.startswith(".")
    ]
