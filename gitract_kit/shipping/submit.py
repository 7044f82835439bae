"""What the inference notebook calls: bundles and a competition folder in, a submission out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from gitract_kit.competition.layout import Layout
from gitract_kit.errors import BundleError, SettingsError
from gitract_kit.inference.faults import FaultLog, in_rerun
from gitract_kit.inference.predictor import PredictionSummary, Predictor
from gitract_kit.inference.rows import start_submission
from gitract_kit.settings import PredictionSettings
from gitract_kit.shipping.bundle import Bundle, load_bundle, read_layout

__all__ = ["predict_bundles"]


def predict_bundles(
    bundles: Sequence[str | Path],
    root: str | Path,
    output: str | Path,
    *,
    split: str = "test",
    masks: str | Path | None = None,
    device: str | None = None,
    budget_s: float | None = None,
    allow_missing_members: bool = False,
    progress: bool = True,
) -> PredictionSummary:
    """Write the submission of ``root/split`` to ``output`` with all members of ``bundles``; return what was done.

    Thresholds and the rest of the prediction settings are those of the first bundle that has segmenters; another one
    of other settings is warned of: only settings chosen for the ensemble suit the ensemble. ``device`` is one or
    several, joined by commas, each with a process and scans of its own; unless named it is every GPU, or the CPU where
    there is none. The submission with every row empty is written before any weights are read; the seconds
    of ``budget_s`` count from then on. ``masks`` is a folder for masks as pictures, in a layout that has them. Bundles
    of another layout or other organs than the first are a `BundleError`.
    """
    start = time.monotonic()
    layout = _start(bundles, root, output, split)
    create = partial(_create_predictor, tuple(bundles), layout, allow_missing_members)
    here, *others = _choose_devices(device)
    predictor = create(here, [(name, partial(create, name)) for name in others])
    if budget_s is not None:
        budget_s -= time.monotonic() - start
    return predictor.predict(root, output, split=split, masks=masks, budget_s=budget_s, progress=progress)


def _start(bundles: Sequence[str | Path], root: str | Path, output: str | Path, split: str) -> Layout:
    """Write the submission that holds nothing yet, and return the layout that all ``bundles`` share."""
    # what is to be told of it is told by the prediction itself, which starts in the same way
    faults = FaultLog(tolerant=in_rerun())
    try:
        layouts = [read_layout(folder) for folder in bundles]
    except BundleError:
        # of bundles that say nothing, the competition's own rows are the ones that Kaggle takes
        start_submission(root, output, split=split, faults=faults)
        raise
    start_submission(root, output, layouts[0], split=split, faults=faults)
    for folder, layout in zip(bundles, layouts, strict=True):
        if layout != layouts[0]:
            raise BundleError(
                f"{folder} predicts {layout}, {bundles[0]} {layouts[0]}; bundles of one layout combine"
            )
    return layouts[0]


def _choose_devices(named: str | None) -> list[str]:
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if named is None:
        return gpus or ["cpu"]
    for name in (devices := named.split(",")):
        if not _is_device(name, len(gpus)):
            raise SettingsError(
                f"device {name!r} is not one of this machine's: {', '.join(['cpu', *gpus])}; join several by commas"
            )
    return devices


def _is_device(name: str, gpus: int) -> bool:
    try:
        device = torch.device(name)
    except RuntimeError:
        return False
    return device.type != "cuda" or (device.index or 0) < gpus


def _create_predictor(
    bundles: Sequence[str | Path],
    layout: Layout,
    allow_missing_members: bool,
    device: str,
    elsewhere: Sequence[tuple[str, Callable[[], Predictor]]] = (),
) -> Predictor:
    """What each device's process calls."""
    loaded = [
        load_bundle(folder, device=device, allow_missing_members=allow_missing_members) for folder in bundles
    ]
    members = [member for bundle in loaded for member in bundle.members]
    return Predictor(members, _settings_of(loaded), layout=layout, elsewhere=elsewhere)


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
                stacklevel=4,
            )
    return first.prediction
