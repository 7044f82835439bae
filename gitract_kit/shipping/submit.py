"""What the inference notebook calls: bundles and a competition folder in, a submission out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from gitract_kit.errors import BundleError
from gitract_kit.inference.predictor import PredictionSummary, Predictor
from gitract_kit.inference.rows import start_submission
from gitract_kit.settings import PredictionSettings
from gitract_kit.shipping.bundle import Bundle, load_bundle

__all__ = ["predict_bundles"]


def predict_bundles(
    bundles: Sequence[str | Path],
    root: str | Path,
    output: str | Path,
    *,
    split: str = "test",
    device: str | None = None,
    budget_s: float | None = None,
    allow_missing_members: bool = False,
    progress: bool = True,
) -> PredictionSummary:
    """Write the submission of ``root/split`` to ``output`` with all members of ``bundles``; return what was done.

    Thresholds and the rest of the prediction settings are those of the first bundle that has segmenters; another one
    of other settings is warned of: only settings chosen for the ensemble suit the ensemble. ``device`` is a GPU where
    there is one, unless named. The submission with every row empty is written before any weights are read; the seconds
    of ``budget_s`` count from then on. Bundles of other organs than the first are a `BundleError`.
    """
    start = time.monotonic()
    start_submission(root, output, split=split)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    loaded = [
        load_bundle(folder, device=device, allow_missing_members=allow_missing_members) for folder in bundles
    ]
    first = loaded[0]
    for bundle in loaded:
        if (bundle.layout, bundle.organs) != (first.layout, first.organs):
            raise BundleError(
                f"{bundle.folder} predicts {', '.join(bundle.organs)} of {bundle.layout}, "
                f"{first.folder} {', '.join(first.organs)} of {first.layout}; bundles of one layout combine"
            )
    members = [member for bundle in loaded for member in bundle.members]
    predictor = Predictor(members, _settings_of(loaded), first.organs)
    if budget_s is not None:
        budget_s -= time.monotonic() - start
    return predictor.predict(root, output, split=split, budget_s=budget_s, progress=progress)


def _settings_of(bundles: Sequence[Bundle]) -> PredictionSettings:
    """The prediction settings for all ``bundles``."""
    # those of a gate were fitted to what the gate would draw, and it draws nothing
    drawing = [bundle for bundle in bundles if any(member.role == "segment" for member in bundle.members)]
    first, *others = drawing or bundles
    for bundle in others:
        if bundle.prediction != first.prediction:
            warnings.warn(
                f"{bundle.folder} has other prediction settings than {first.folder}, whose are used: evaluate the runs "
                "together, and bundle each with --ensemble, for settings and weights that suit them together",
                stacklevel=3,
            )
    return first.prediction
