"""Installs the wheels beside it, as listed in wheels.json, each held to its hash; then imports what they are for.

Runs in a notebook without internet and without gitract_kit, so it needs the standard library and pip alone. Travels in
the folder of wheels as ``install.py``. Wheels that Kaggle has unpacked into folders are taken too.
"""

from __future__ import annotations

import csv
import importlib
import importlib.metadata
import io
import json
import os
import pkgutil
import subprocess
import sys
import sysconfig
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

__all__ = ["WheelsError", "install_wheels"]

MANIFEST = "wheels.json"
LOCK = "requirements.lock"
INSTALL = "install.py"


class WheelsError(RuntimeError):
    """The wheels do not fit this Python, or are missing or altered; the message says what to do."""


def install_wheels(folder: Path) -> list[str]:
    """Install every wheel that this Python needs and import what they are for; return ``name version`` of each."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python not in manifest["pythons"]:
        raise WheelsError(
            f"this notebook runs Python {python}, the wheels are for {', '.join(manifest['pythons'])}: make them "
            f"again with `gitract wheels -o DIR --python {python}` and upload them as a new version of the dataset"
        )
    wheels = [wheel for wheel in manifest["wheels"] if python in wheel["pythons"]]
    if all((folder / wheel["file"]).is_file() for wheel in wheels):
        _install_with_pip(folder)
    else:
        _copy_wheels(folder, wheels)
    _check_imports(manifest["imports"], wheels)
    return [f"{wheel['name']} {wheel['version']}" for wheel in wheels]


def _install_with_pip(folder: Path) -> None:
    options = ["--no-index", "--no-deps", "--require-hashes", "--no-warn-script-location", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--find-links", str(folder)]
    done = subprocess.run(
        [*command, "-r", str(folder / LOCK)], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise WheelsError(
            f"pip could not install the wheels of {folder}: {done.stderr.strip()[-1500:]}\n"
            "upload the folder that `gitract wheels` wrote again, whole"
        )


def _copy_wheels(folder: Path, wheels: list[dict[str, Any]]) -> None:
    """What pip would do for wheels without scripts or data, of which some are folders by now."""
    target = Path(_target())
    for wheel in wheels:
        path = folder / wheel["file"]
        contents = _read_wheel_file(path, wheel) if path.is_file() else _read_unpacked(folder, wheel)
        for name, content in contents.items():
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)


def _target() -> str:
    return os.environ.get("PIP_TARGET") or sysconfig.get_path("purelib")


def _read_wheel_file(path: Path, wheel: dict[str, Any]) -> dict[str, bytes]:
    content = path.read_bytes()
    if sha256(content).hexdigest() != wheel["sha256"]:
        raise WheelsError(f"{path} is not the wheel that was made: its sha256 differs; upload it again")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def _read_unpacked(folder: Path, wheel: dict[str, Any]) -> dict[str, bytes]:
    """Every file of a wheel that was unpacked, each held to its hash."""
    info = f"{wheel['distribution']}.dist-info"
    found = [*folder.glob(info), *folder.glob(f"*/{info}")]
    if not found:
        raise WheelsError(
            f"{folder} lacks {wheel['file']}, and no folder of it holds {info}: upload the folder that "
            "`gitract wheels` wrote again, whole"
        )
    # wheels of one package for several Pythons unpack to the same name
    records = {(place / "RECORD").read_bytes(): place.parent for place in found}
    record = next((one for one in records if sha256(one).hexdigest() == wheel["record_sha256"]), None)
    if record is None:
        raise WheelsError(f"{found[0] / 'RECORD'} is not that of {wheel['file']}: upload it again")
    root = records[record]
    contents = {f"{info}/RECORD": record}
    for name, digest, _ in csv.reader(io.StringIO(record.decode())):
        if digest:
            contents[name] = _read_recorded(root / name, digest)
    return contents


def _read_recorded(path: Path, digest: str) -> bytes:
    content = path.read_bytes() if path.is_file() else b""
    found = urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
    if digest != f"sha256={found}":
        raise WheelsError(
            f"{path} is missing or altered; upload the folder that `gitract wheels` wrote again"
        )
    return content


def _check_imports(modules: list[str], wheels: list[dict[str, Any]]) -> None:
    if _target() not in sys.path:
        sys.path.insert(0, _target())
    importlib.invalidate_caches()
    for module in modules:
        try:
            pkgutil.resolve_name(module)
        except ImportError as error:
            raise WheelsError(
                f"the wheels are installed, but `import {module}` fails: {error}. The notebook's image has changed: "
                "make the wheels again with a newer kit"
            ) from error
    for wheel in wheels:
        found = importlib.metadata.version(wheel["name"])
        if found != wheel["version"]:
            raise WheelsError(
                f"{wheel['name']} is {found}, the wheel is {wheel['version']}: restart the notebook"
            )


if __name__ == "__main__":
    print("installed", ", ".join(install_wheels(Path(__file__).parent)))
