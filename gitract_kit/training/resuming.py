"""Whether a run may go on from a checkpoint: on the same data, with settings that its state still fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitract_kit.errors import SettingsError
from gitract_kit.settings import Settings, settings_to_dict

__all__ = ["check_may_go_on"]

# what a run's state does not depend on, what only its start reads, and what an error's advice asks to change
_MAY_CHANGE = {
    "preset",
    "model.encoder_weights",
    "model.initial_weights",
    "training.compile",
    "training.early_stop",
    "training.learning_rate",
    "training.precision",
    "training.workers",
}
# the length of a run, which only some schedules and averages can bear to see changed
_LENGTH = {"training.epochs", "training.batch_size", "training.accumulate"}


def check_may_go_on(state: Mapping[str, Any], settings: Settings, fingerprint: str) -> None:
    """Raise a `SettingsError` where the run that left the checkpoint ``state`` is not the one that would go on.

    ``fingerprint`` is that of the prepared data. Other folds would let slices that were learnt from be scored as held
    out; other settings would be ignored where the state holds the old ones, or not fit it.
    """
    if state["data_fingerprint"] != fingerprint:
        raise SettingsError(
            "the prepared folder holds other data, labels or folds than those the run began with, so slices that it "
            "learnt from might be scored as held out: give the folder it began with, or train in a new run folder"
        )
    before, now = _flat(state["settings"]), _flat(settings_to_dict(settings))
    allowed = _MAY_CHANGE | (_LENGTH if _may_last_longer(state, settings) else set())
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and key not in allowed and not key.startswith("prediction."):
            raise SettingsError(
                f"the run began with {key}={before.get(key)}, and {now.get(key)} would not go with its state: go on "
                "with the former, or train in a new run folder (model.initial_weights starts it from these weights)"
            )


def _may_last_longer(state: Mapping[str, Any], settings: Settings) -> bool:
    began = state["settings"]["training"]
    averaged = began["swa_epochs"] and state["epoch"] > began["epochs"] - began["swa_epochs"]
    # one-cycle is laid out over all its steps from the first one on
    return settings.training.schedule != "one-cycle" and not averaged


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``settings`` by their dotted keys; what is given by name, a loss's weights say, stays one value."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and not prefix:
            flat.update(_flat(value, f"{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
