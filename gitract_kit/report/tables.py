"""The report's tables, as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd

from gitract_kit.competition.score_sums import score_by
from gitract_kit.report.scores import Scored

__all__ = ["interval_of", "organ_label", "scan_table", "score_table", "variant_table"]

_SCORES = {"total": "Score", "dice": "Dice", "hausdorff": "Hausdorff"}


def organ_label(organ: str) -> str:
    """Return an organ's name as a person writes it."""
    return organ.replace("_", " ")


def variant_table(scored: Mapping[str, Scored]) -> str:
    """Return a ``<table>``: a row a variant of the score, each value over its 95 % interval where there is one."""
    rows = [_variant_row(variant, one) for variant, one in scored.items()]
    heads = "".join(f'<th scope="col">{name}</th>' for name in _SCORES.values())
    head = f'<tr><th scope="col">Variant</th>{heads}</tr>'
    return f'<table id="variants"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _variant_row(variant: str, scored: Scored) -> str:
    cells = [
        f"<td><b>{getattr(scored.score, name):.4f}</b>{interval_of(scored, name)}</td>" for name in _SCORES
    ]
    return f'<tr><th scope="row">{variant}</th>{"".join(cells)}</tr>'


def interval_of(scored: Scored, name: str) -> str:
    """Return the interval of total, dice or hausdorff as a ``<small>``, empty where there is none."""
    if scored.interval is None:
        return ""
    low, high = scored.interval[name]
    return f"<small>{low:.3f}&ndash;{high:.3f}</small>"


def score_table(parts: pd.DataFrame, organs: Sequence[str]) -> str:
    """Return a ``<table>``: a row for all scans and one a fold; score, Dice and distance of all organs and of each."""
    rows = [_score_row("All scans", parts, organs)]
    if "fold" in parts:
        rows += [
            _score_row(f"Fold {fold}", group, organs) for fold, group in parts.groupby("fold", sort=True)
        ]
    groups = "".join(
        f'<th colspan="3" scope="colgroup" class="first">{escape(name)}</th>'
        for name in ["All organs", *map(organ_label, organs)]
    )
    names = _score_heads() * (len(organs) + 1)
    head = f'<tr><td></td>{groups}</tr><tr><th scope="col">Scans</th>{names}</tr>'
    return f'<table id="scores"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def scan_table(
    parts: pd.DataFrame, slices: pd.DataFrame, organs: Sequence[str], shown: Mapping[str, int]
) -> str:
    """Return a ``<table>`` with a row a scan, worst first; its column heads are buttons to sort by.

    ``slices`` is the index of the slices, and ``shown`` the place in the slice browser of the scans that are there.
    """
    whole = score_by(parts, "scan").sort_values("total", kind="stable")
    organ_scores = score_by(parts, ["scan", "organ"])
    facts = slices.groupby("scan", sort=False).agg(
        slices=("id", "size"),
        bad=("bad_scan", "first"),
        fold=("fold" if "fold" in slices else "day", "first"),
    )
    rows = [
        _scan_row(
            name, scores, facts.loc[name], [organ_scores.loc[(name, organ)] for organ in organs], parts, shown
        )
        for name, scores in whole.iterrows()
    ]
    fold = ["Fold"] if "fold" in parts else []
    columns = ["Scan", *_SCORES.values()]
    columns += [f"{organ_label(organ)} {name}" for organ in organs for name in ("Dice", "Hausdorff")]
    columns += [*fold, "Slices"]
    heads = "".join(_sort_head(name) for name in columns)
    return f'<table id="scans"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _score_row(label: str, parts: pd.DataFrame, organs: Sequence[str]) -> str:
    whole = score_by(parts.assign(all_organs=0), "all_organs").iloc[0]
    by_organ = score_by(parts, "organ")
    cells = "".join(_score_cells(scores) for scores in [whole, *(by_organ.loc[organ] for organ in organs)])
    return f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>'


def _score_heads() -> str:
    first, *others = _SCORES.values()
    return f'<th scope="col" class="first">{first}</th>' + "".join(
        f'<th scope="col">{n}</th>' for n in others
    )


def _score_cells(scores: pd.Series) -> str:
    first, *others = (scores[name] for name in _SCORES)
    return _number(first, ' class="first"') + "".join(map(_number, others))


def _scan_row(
    name: str,
    scores: pd.Series,
    facts: pd.Series,
    by_organ: Sequence[pd.Series],
    parts: pd.DataFrame,
    shown: Mapping[str, int],
) -> str:
    label = escape(name)
    if name in shown:
        label = f'<button type="button" class="open" data-scan="{shown[name]}">{label}</button>'
    if facts["bad"]:
        label += ' <span class="bad" title="the organiser lists its labels as wrong">bad labels</span>'
    cells = f'<th scope="row" data-value="{escape(_natural(name))}">{label}</th>'
    cells += _score_cells(scores)
    cells += "".join(_number(organ[column]) for organ in by_organ for column in ("dice", "hausdorff"))
    counts = [facts["fold"]] if "fold" in parts else []
    cells += "".join(f'<td data-value="{count}">{count}</td>' for count in [*counts, facts["slices"]])
    return f"<tr>{cells}</tr>"


def _natural(name: str) -> str:
    """Return a scan's name so that its text order is that of its numbers."""
    digits = "".join(letter if letter.isdecimal() else " " for letter in name)
    return " ".join(number.zfill(6) for number in digits.split()) or name


def _sort_head(name: str) -> str:
    state = "ascending" if name == "Score" else "none"
    return f'<th scope="col" aria-sort="{state}"><button type="button">{escape(name)}</button></th>'


def _number(value: float, attributes: str = "") -> str:
    if math.isnan(value):
        return f'<td{attributes} data-value="">&ndash;</td>'
    return f'<td{attributes} data-value="{value:.6f}">{value:.3f}</td>'
