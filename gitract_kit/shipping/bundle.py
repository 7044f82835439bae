"""Bundles: trained members as flat files that travel to the notebook and prove themselves before use.

    BUNDLE/
        bundle.json             what is in it: organs, prediction settings, and a sha256 a member
        fold_0.safetensors      one file of weights a member

Nothing is unpickled, neither here nor there: safetensors hold numbers and names alone.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from gitract_kit.competition.layout import Layout, layout_of
from gitract_kit.data.oof import chosen_prediction, ensemble_part
from gitract_kit.errors import BundleError, SettingsError
from gitract_kit.files import write_bytes_atomic, write_text_atomic
from gitract_kit.inference.member import NetworkMember
from gitract_kit.models import create_model
from gitract_kit.settings import PredictionSettings, Settings, settings_from_dict, settings_to_dict
from gitract_kit.shipping.manifest import FORMAT, MANIFEST, ROLES, check_format, read_json, read_manifest

__all__ = ["Bundle", "create_bundle", "load_bundle", "read_layout", "read_manifest"]

_RUN_KEYS = ("settings", "fold", "epoch", "score", "sha256")


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, its networks ready to predict."""

    folder: Path
    name: str
    layout: str
    organs: tuple[str, ...]
    prediction: PredictionSettings
    members: tuple[NetworkMember, ...]


def create_bundle(
    run: str | Path,
    out: str | Path,
    *,
    folds: Sequence[int] | None = None,
    name: str | None = None,
    half: bool = True,
    role: str = "segment",
    ensemble: str | Path | None = None,
) -> Path:
    """Write the trained folds of ``run`` as a bundle and return its folder, ``out``.

    ``folds`` picks some, None takes all that are there. ``half`` stores the weights as float16, half the size; loading
    widens them to float32 again. ``role`` is what the members are for: ``segment`` or ``gate``. The prediction
    settings are those of the first fold, changed by what `gitract evaluate` chose for the run. With ``ensemble``, an
    ensemble.json that tells of the run, they are those chosen for the ensemble, and the members share the run's weight
    in it: the bundles of all its runs, predicted with together, are what was evaluated. The same run gives the same
    bytes. A fold that is missing, torn or of other organs is a `BundleError`.
    """
    if role not in ROLES:
        raise SettingsError(f"role is {role!r}, expected {' or '.join(ROLES)}")
    run, out = Path(run), Path(out)
    trained = [_read_fold(run / f"fold_{fold}") for fold in _choose_folds(run, folds)]
    settings = [_settings(fold["settings"], fold["path"]) for fold in trained]
    _check_organs([one.organs for one in settings], [fold["path"] for fold in trained])
    if ensemble is None:
        weight, prediction = 1.0, chosen_prediction(run, settings[0].prediction)
    else:
        run_weight, prediction = ensemble_part(ensemble, run, settings[0].prediction)
        weight = run_weight / len(trained)
    members = [_write_member(fold, out, half, role, weight) for fold in trained]
    manifest = {
        "format": FORMAT,
        "name": name or out.resolve().name,
        "layout": settings[0].layout,
        "organs": list(settings[0].organs),
        "prediction": settings_to_dict(dataclasses.replace(settings[0], prediction=prediction))["prediction"],
        "members": members,
        "versions": trained[0].get("versions", {}),
    }
    # last, so that a bundle with a manifest is whole
    write_text_atomic(out / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return out


def load_bundle(
    folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    tta: str | None = None,
    batch_size: int | None = None,
    allow_missing_members: bool = False,
) -> Bundle:
    """Return the bundle in ``folder``, its networks on ``device``; every hash is compared before any is used.

    ``tta`` and ``batch_size`` replace the bundle's own. With ``allow_missing_members`` a member whose weights are
    missing or altered is left out with a warning, as long as one is left. What is missing, altered,
    unknown or does not fit its settings is a `BundleError` that names the file and what to do.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    path = folder / MANIFEST
    prediction = _prediction(manifest, path, tta=tta, batch_size=batch_size)
    settings = [_settings(entry["settings"], path) for entry in manifest["members"]]
    organs = [tuple(manifest["organs"]), *(one.organs for one in settings)]
    _check_organs(organs, [path, *(folder / entry["weights"] for entry in manifest["members"])])
    sound = _sound_members(manifest, folder, allow_missing=allow_missing_members)
    members = [
        _load_member(folder, manifest, entry, dataclasses.replace(one, prediction=prediction), device)
        for entry, one in zip(manifest["members"], settings, strict=True)
        if entry in sound
    ]
    return Bundle(folder, manifest["name"], manifest["layout"], organs[0], prediction, tuple(members))


def read_layout(folder: str | Path) -> Layout:
    """Return the layout that the members of the bundle in ``folder`` were trained in; no weights are read."""
    path = Path(folder) / MANIFEST
    settings = _settings(read_manifest(folder)["members"][0]["settings"], path)
    try:
        return layout_of(settings.layout, settings.organs, settings.mask_values)
    except SettingsError as error:
        raise BundleError(f"{path}: {error}; use the kit that wrote it") from error


def _sound_members(
    manifest: Mapping[str, Any], folder: Path, *, allow_missing: bool
) -> list[Mapping[str, Any]]:
    """The members whose weights are there and unaltered: all of them, unless some may be missing."""
    sound = []
    for entry in manifest["members"]:
        try:
            _read_weights(folder / entry["weights"], entry["sha256"])
        except BundleError as error:
            if not allow_missing:
                raise
            warnings.warn(f"left out: {error}", stacklevel=3)
        else:
            sound.append(entry)
    if not sound:
        raise BundleError(f"{folder}: no member is whole; copy the whole folder again")
    return sound


def _choose_folds(run: Path, folds: Sequence[int] | None) -> list[int]:
    there = sorted(
        int(path.parent.name.removeprefix("fold_"))
        for path in run.glob("fold_*/model.json")
        if path.parent.name.removeprefix("fold_").isdigit()
    )
    if not there:
        raise BundleError(
            f"{run} holds no fold_*/model.json; give the run folder of `gitract train`, once a fold is trained"
        )
    missing = sorted(set(folds or ()) - set(there))
    if missing:
        raise BundleError(
            f"{run} has no trained fold {missing[0]}; trained are {', '.join(map(str, there))}: train it first"
        )
    return there if folds is None else sorted(set(folds))


def _read_fold(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    about = read_json(path, "train the fold first")
    check_format(about, path)
    missing = [key for key in _RUN_KEYS if key not in about]
    if missing:
        raise BundleError(f"{path}: lacks {', '.join(missing)}; train the fold again with this kit")
    # it becomes a file's name, and a run may come from anywhere
    if f"fold_{about['fold']}" != folder.name:
        raise BundleError(f"{path}: is of fold {about['fold']!r}, not of {folder.name}; copy the run again")
    return {**about, "path": path, "weights": folder / "model.safetensors"}


def _write_member(fold: Mapping[str, Any], out: Path, half: bool, role: str, weight: float) -> dict[str, Any]:
    state = _parse_weights(_read_weights(fold["weights"], fold["sha256"]), fold["weights"])
    if half:
        state = {name: _halve(tensor, name, fold["weights"]) for name, tensor in state.items()}
    content = save(state)
    name = f"fold_{fold['fold']}.safetensors"
    write_bytes_atomic(out / name, content)
    return {
        "weights": name,
        "sha256": sha256(content).hexdigest(),
        "bytes": len(content),
        "role": role,
        "weight": weight,
        **{key: fold[key] for key in ("fold", "epoch", "score", "settings")},
    }


def _halve(tensor: torch.Tensor, name: str, path: Path) -> torch.Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    halved = tensor.to(torch.float16)
    if not torch.isfinite(halved).all():
        raise BundleError(
            f"{path}: {name} holds values that float16 cannot; create the bundle with half=False"
        )
    return halved


def _load_member(
    folder: Path,
    manifest: Mapping[str, Any],
    entry: Mapping[str, Any],
    settings: Settings,
    device: str | torch.device,
) -> NetworkMember:
    path = folder / entry["weights"]
    state = _parse_weights(_read_weights(path, entry["sha256"]), path)
    model = dataclasses.replace(settings.model, encoder_weights=None)
    try:
        network = create_model(model, in_channels=settings.window.slices, classes=len(settings.organs))
    except SettingsError as error:
        raise BundleError(
            f"{folder / MANIFEST}: the network of {path.name} cannot be made: {error}"
        ) from error
    _check_tensors(state, network.state_dict(), path)
    network.load_state_dict(state)
    return NetworkMember(
        network,
        settings,
        device,
        name=f"{manifest['name']}/{path.stem}",
        role=entry["role"],
        weight=float(entry["weight"]),
        group=_group(manifest["name"], settings),
    )


def _group(name: str, settings: Settings) -> str:
    """The same for folds of one network, and for no others."""
    model, window, geometry = settings.model, settings.window, settings.geometry
    return (
        f"{name}/{model.architecture}-{model.encoder}-{window.slices}x{window.stride}-"
        f"{geometry.height}x{geometry.width}"
    )


def _check_tensors(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], path: Path) -> None:
    faults = {
        "lacks": [name for name in own if name not in state],
        "has beyond the network's": [name for name in state if name not in own],
        "has in another shape": [
            name for name in own if name in state and state[name].shape != own[name].shape
        ],
    }
    for what, names in faults.items():
        if names:
            raise BundleError(
                f"{path}: {what} {len(names)} tensors, {names[0]} the first; these weights are of another "
                f"network than {MANIFEST} says: write the bundle again"
            )


def _read_weights(path: Path, expected: str) -> bytes:
    """The file's bytes, once their hash is the expected one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({error.strerror}); copy the whole folder again"
        ) from error
    found = sha256(content).hexdigest()
    if found != expected:
        raise BundleError(
            f"{path}: its sha256 is {found[:12]}, expected {str(expected)[:12]} ({len(content)} bytes); "
            "it was altered or not copied whole: copy it again"
        )
    return content


def _parse_weights(content: bytes, path: Path) -> dict[str, torch.Tensor]:
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"{path}: is not a safetensors file ({error}); write it again") from error


def _settings(values: Any, path: Path) -> Settings:
    try:
        return settings_from_dict(values)
    except SettingsError as error:
        raise BundleError(
            f"{path}: its settings are not this kit's: {error}; use the kit that wrote it"
        ) from error


def _prediction(manifest: Mapping[str, Any], path: Path, **changes: Any) -> PredictionSettings:
    values = manifest["prediction"]
    own = _settings({"prediction": values}, path).prediction
    return dataclasses.replace(own, **{key: value for key, value in changes.items() if value is not None})


def _check_organs(organs: Sequence[tuple[str, ...]], paths: Sequence[Path]) -> None:
    for other, path in zip(organs, paths, strict=True):
        if other != organs[0]:
            raise BundleError(
                f"{path}: predicts {', '.join(other)}, but {paths[0]} {', '.join(organs[0])}; "
                "only members of the same organs in the same order go together"
            )
