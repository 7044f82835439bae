"""From a raw UW-Madison GI Tract competition folder to a scored ``submission.csv``.

The names below are loaded when first used, so that ``import gitract_kit`` stays quick and does not
import torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ORGANS": "gitract_kit.competition.layout",
    "rle_encode": "gitract_kit.competition.rle",
    "rle_decode": "gitract_kit.competition.rle",
    "build_index": "gitract_kit.competition.index",
    "assign_folds": "gitract_kit.data.folds",
    "competition_score": "gitract_kit.competition.metric",
    "write_submission": "gitract_kit.competition.submission",
    "check_submission": "gitract_kit.competition.submission",
    "create_model": "gitract_kit.models",
    "train_fold": "gitract_kit.training",
    "create_bundle": "gitract_kit.shipping.bundle",
    "load_bundle": "gitract_kit.shipping.bundle",
    "Predictor": "gitract_kit.inference.predictor",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
