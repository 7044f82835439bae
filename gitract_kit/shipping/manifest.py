"""``bundle.json``: what a bundle says of itself, read strictly before any weights are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gitract_kit.errors import BundleError

__all__ = ["FORMAT", "MANIFEST", "ROLES", "check_format", "read_json", "read_manifest"]

FORMAT = 1
"""Of bundles, and of a trained fold's ``model.json``."""
MANIFEST = "bundle.json"
_BUNDLE_KEYS = {
    "name": str,
    "layout": str,
    "organs": list,
    "prediction": dict,
    "members": list,
    "versions": dict,
}
_MEMBER_KEYS = {
    "weights": str,
    "sha256": str,
    "bytes": int,
    "role": str,
    "weight": (int, float),
    "fold": int,
    "epoch": int,
    "score": dict,
    "settings": dict,
}
ROLES = ("segment", "gate")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Return ``bundle.json`` as it stands, its keys checked; no weights are read."""
    path = Path(folder) / MANIFEST
    manifest = read_json(path, "give the folder that `gitract bundle` wrote")
    check_format(manifest, path)
    _check_keys(manifest, _BUNDLE_KEYS, path, "the bundle")
    if not manifest["organs"] or not all(isinstance(organ, str) for organ in manifest["organs"]):
        raise BundleError(f"{path}: organs are {manifest['organs']!r:.80}, expected a list of names")
    if not manifest["members"]:
        raise BundleError(f"{path}: holds no members; write the bundle again with `gitract bundle`")
    for entry in manifest["members"]:
        _check_member(entry, path)
    return manifest


def _check_member(entry: Any, path: Path) -> None:
    if not isinstance(entry, dict):
        raise BundleError(f"{path}: a member is {entry!r}, expected a JSON object; write the bundle again")
    _check_keys(entry, _MEMBER_KEYS, path, "a member")
    weights, role, weight = entry["weights"], entry["role"], entry["weight"]
    # a name and no path: a manifest must not reach outside its folder
    if Path(weights).name != weights or not weights.endswith(".safetensors"):
        raise BundleError(
            f"{path}: a member's weights are {weights!r}, expected the name of a .safetensors file beside it"
        )
    if role not in ROLES:
        raise BundleError(
            f"{path}: {weights} has the role {role!r}, expected {' or '.join(ROLES)}; use a newer kit"
        )
    if not 0 < weight < math.inf:
        raise BundleError(f"{path}: {weights} has the weight {weight!r}, expected a number over 0")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in ``path``; anything else is a `BundleError` that ends in ``remedy``."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise BundleError(f"{path}: is not JSON ({error}); {remedy}") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path}: holds a {type(value).__name__}, expected a JSON object; {remedy}")
    return value


def check_format(about: Mapping[str, Any], path: Path) -> None:
    """Raise a `BundleError` where ``about``, read from ``path``, is not of the format that this kit reads."""
    if about.get("format") != FORMAT:
        raise BundleError(
            f"{path}: has the format {about.get('format')!r}, this kit reads {FORMAT}; "
            "write it again, or use the kit that wrote it"
        )


def _check_keys(entry: Mapping[str, Any], expected: Mapping[str, Any], path: Path, what: str) -> None:
    missing = [key for key in expected if key not in entry]
    unknown = [key for key in entry if key not in (*expected, "format")]
    if missing:
        raise BundleError(f"{path}: {what} lacks {', '.join(missing)}; write it again with `gitract bundle`")
    if unknown:
        raise BundleError(f"{path}: {what} has the unknown key {unknown[0]!r}; use the kit that wrote it")
    for key, kind in expected.items():
        if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
            raise BundleError(
                f"{path}: {key} of {what} is {entry[key]!r:.80}; write it again with `gitract bundle`"
            )
