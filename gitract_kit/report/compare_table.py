"""The table of a comparison, and what its columns mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gitract_kit.competition.metric import VARIANTS
from gitract_kit.competition.score_sums import bootstrap_lead
from gitract_kit.report.comparison import Comparison, Model, differing_settings
from gitract_kit.report.scores import RESAMPLES
from gitract_kit.report.tables import organ_label

__all__ = ["Cell", "describe", "settings_rows", "table_head", "table_rows"]


@dataclass(frozen=True)
class Cell:
    """What stands in a cell of a table."""

    text: str
    best: bool = False
    """Whether it is the best of its column, to the digits shown."""


def table_head(comparison: Comparison) -> list[Cell]:
    """Return the names of the columns."""
    organs = [f"Dice, {organ_label(organ)}" for organ in comparison.organs]
    names = ["Model", "Network", "Loss Dice", "Accuracy Dice", "Dice", *organs, "Hausdorff", "Score"]
    return [Cell(name) for name in [*names, "95 % interval", "Parameters", "Seconds an epoch"]]


def table_rows(comparison: Comparison) -> list[list[Cell]]:
    """Return a row a model, in the order of the runs."""
    models = comparison.models
    columns = [
        [Cell(model.label) for model in models],
        [Cell(model.network) for model in models],
        _measured([model.loss_dice for model in models]),
        _measured([model.accuracy_dice for model in models]),
        _measured([model.scored.score.dice for model in models]),
        *(_measured([_dice_of(model, organ) for model in models]) for organ in comparison.organs),
        _measured([model.scored.score.hausdorff for model in models], lowest=True),
        _measured([model.scored.score.total for model in models]),
        [Cell(_interval(model)) for model in models],
        [Cell(_or_dash(model.parameters / 1e6, ".1f", " M")) for model in models],
        [Cell(_or_dash(model.epoch_seconds, ".1f", "")) for model in models],
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def settings_rows(comparison: Comparison) -> list[list[Cell]]:
    """Return a head and a row a setting in which the runs differ, a column a model."""
    head = ["Setting", *(model.label for model in comparison.models)]
    rows = [[name, *values] for name, values in differing_settings(comparison.models).items()]
    return [[Cell(text) for text in row] for row in [head, *rows]]


def describe(comparison: Comparison) -> dict[str, str]:
    """Return what was compared and what each column means, by term."""
    return {
        "Compared": _compared(comparison),
        "Masks": _masks(comparison),
        "Loss Dice": "1 - Dice loss: the Dice of the probabilities themselves, before any threshold, as the Dice loss "
        "of training counts it; one of each organ over a whole scan, their mean over organs and scans.",
        "Accuracy Dice": "the Dice of the masks, 1 where truth and prediction are both empty, its mean over all slices "
        "and organs: what course reports and public notebooks call Dice coefficient or accuracy. Most slices hold no "
        "organ, so it is high for a network that draws little.",
        "Dice": "the same without the slices that are empty on both sides: the competition's.",
        "Hausdorff": "largest distance from one mask to the other in a whole scan, each axis by its length: 0 to 1, "
        "lower is better.",
        "Score": f"0.4 x Dice + 0.6 x (1 - Hausdorff), variant {VARIANTS[0]}. Its interval holds 95 % of {RESAMPLES:,} "
        "resamples of the cases.",
        **_leads(comparison),
        "Parameters": "numbers that training changes, of one fold's network.",
        "Seconds an epoch": f"median over the epochs, without validation{_computed_on(comparison)}.",
    }


def _compared(comparison: Comparison) -> str:
    index = comparison.index
    folds = ", ".join(str(fold) for fold in sorted(index["fold"].unique()))
    told = (
        f"{len(index):,} slices of {index['scan'].nunique()} scans of {index['case'].nunique()} cases: fold {folds}, "
        "which no network had seen."
    )
    if comparison.folds_left_out:
        left_out = ", ".join(map(str, comparison.folds_left_out))
        told += f" Fold {left_out} is left out, because not every run has trained it."
    return told


def _leads(comparison: Comparison) -> dict[str, str]:
    """How far the best score is ahead of the others', and whether that may be chance."""
    best = max(comparison.models, key=lambda model: model.scored.score.total)
    told = [_lead(best, model) for model in comparison.models if model is not best]
    return {"Ahead": f"{best.label}, {'; '.join(told)} (95 % of resamples, the same cases for both)."}


def _lead(best: Model, other: Model) -> str:
    lead = best.scored.score.total - other.scored.score.total
    found = bootstrap_lead(best.scored.parts, other.scored.parts, resamples=RESAMPLES)
    if found is None:
        return f"by {lead:.4f} of {other.label}"
    low, high = found
    chance = ", which may be chance" if low <= 0 else ""
    return f"by {lead:.4f} of {other.label}: {low:.4f} to {high:.4f}{chance}"


def _masks(comparison: Comparison) -> str:
    if comparison.chosen:
        return (
            "by the settings that `gitract evaluate` chose for each run. They were fitted to these very scans, so the "
            "scores are a little too good."
        )
    told = "by each run's own settings; nothing is fitted to these scans."
    if comparison.some_chosen:
        told += (
            " Not every run has been evaluated, so chosen settings are set aside: like is compared with like."
        )
    return told


def _computed_on(comparison: Comparison) -> str:
    machines = {model.computing for model in comparison.models if model.computing}
    if len(machines) < 2:
        return "".join(f" ({machine})" for machine in machines)
    told = "; ".join(f"{model.label}: {model.computing or 'unknown'}" for model in comparison.models)
    return f"; on different machines or precisions, so not comparable ({told})"


def _dice_of(model: Model, organ: str) -> float:
    return float(model.scored.score.by_organ.loc[organ, "dice"])


def _measured(values: Sequence[float], *, lowest: bool = False) -> list[Cell]:
    texts = [_or_dash(value, ".4f", "") for value in values]
    there = [value for value in values if not math.isnan(value)]
    # one that rightly draws nothing of an organ that nobody has is no worse than one that invents it
    all_there = len(there) == len(values) > 0
    best = _or_dash((min if lowest else max)(there), ".4f", "") if all_there else None
    return [Cell(text, best=text == best) for text in texts]


def _interval(model: Model) -> str:
    if model.scored.interval is None:
        return "\u2013"
    low, high = model.scored.interval["total"]
    return f"{low:.4f}\u2013{high:.4f}"


def _or_dash(value: float, form: str, unit: str) -> str:
    return "\u2013" if math.isnan(value) else f"{value:{form}}{unit}"
