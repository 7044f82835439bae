"""An evaluation as the tables that a person reads in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["describe"]

_Row = Sequence[Any]


def describe(numbers: Mapping[str, Any]) -> str:
    """Return the tables of one evaluation, of a run or of an ensemble."""
    scored = numbers.get("chosen", numbers["own"])
    blocks = [_head(numbers)]
    if numbers.get("weight_search"):
        blocks.append(_weights(numbers))
    blocks.append(_variants("own settings", numbers["own"], numbers["resamples"]))
    if numbers.get("search"):
        blocks.append(_search(numbers))
        if numbers["search"]["kept"]:
            blocks.append(_variants("chosen settings", scored, numbers["resamples"]))
    board = scored["scores"]["leaderboard"]
    which = "chosen" if numbers.get("search") and numbers["search"]["kept"] else "own"
    blocks.append(f"leaderboard with the {which} settings\n{_by('organ', board['by_organ'])}")
    blocks += [_by("fold", board["by_fold"]), _worst(numbers["worst_scans"])]
    return "\n\n".join(blocks)


def _head(numbers: Mapping[str, Any]) -> str:
    folds = _join(numbers["folds"])
    lines = [
        f"{' + '.join(numbers['runs'])}: held-out scans of fold {folds}: "
        f"{numbers['scans']} scans of {numbers['cases']} cases, {numbers['slices']} slices"
    ]
    if numbers["gates"]:
        lines.append(f"gate: {' + '.join(numbers['gates'])}")
    if numbers["folds_unfinished"]:
        lines.append(
            f"fold {_join(numbers['folds_unfinished'])} has no held-out probabilities yet and is left out"
        )
    if numbers.get("folds_left_out"):
        lines.append(
            f"fold {_join(numbers['folds_left_out'])} is left out: not every run has trained it, and only folds that "
            "all have make an ensemble"
        )
    return "\n".join(lines)


def _weights(numbers: Mapping[str, Any]) -> str:
    found = numbers["weight_search"]
    rows = [
        ("run", "weight", "weight fitted"),
        *(
            (run, f"{weight:.4f}", f"{fitted:.4f}")
            for run, weight, fitted in zip(numbers["runs"], numbers["weights"], found["weights"], strict=True)
        ),
    ]
    return f"{_gains(found, 'weightings', 'equal weights')}\n{_table(rows)}"


def _search(numbers: Mapping[str, Any]) -> str:
    found = numbers["search"]
    names = list(found["settings"])
    own, fitted = numbers["own"]["prediction"], found["settings"]
    rows = [("organ", *names)]
    rows += [
        (organ, *(f"{own[name][organ]:g} -> {fitted[name][organ]:g}" for name in names))
        for organ in numbers["organs"]
    ]
    searches = ", ".join(
        f"{name} {_four(total)}" for name, total in found["left_out_totals"].items() if total
    )
    choice = f"\n  left out, by search: {searches}; taken: {found['searched']}" if searches else ""
    return f"{_gains(found, 'settings an organ', 'the own settings')}{choice}\n{_table(rows)}"


def _gains(found: Mapping[str, Any], what: str, before: str) -> str:
    """The gain on the scans that chose, beside that on scans that did not, and what follows."""
    kind, groups = found["left_out"], found["groups"]
    lines = [
        f"{found['tried']} {what} tried, leaderboard {found['own_total']:.4f} with {before}",
        f"  fitted to these scans       {found['fitted_total']:.4f}  {found['fitted_gain']:+.4f}",
    ]
    if found["left_out_total"] is None:
        lines.append(
            f"  one {kind} alone: nothing can be left out, so nothing is known of its worth elsewhere"
        )
    else:
        lines.append(
            f"  each {kind} left out ({groups})   {found['left_out_total']:.4f}  {found['left_out_gain']:+.4f}"
            f"  {_what_to_expect(found)}"
        )
    lines.append(
        "  kept" if found["kept"] else f"  not kept: scans that did not choose gain nothing; {before} stay"
    )
    return "\n".join(lines)


def _what_to_expect(found: Mapping[str, Any]) -> str:
    # the better of two was picked by the very scans that tell of it
    two = len(found.get("left_out_totals", ())) > 1
    return "the better of two searches: expect a little less" if two else "this is the gain to expect"


def _variants(title: str, scored: Mapping[str, Any], resamples: int) -> str:
    rows = [("variant", "score", "95 % interval", "Dice", "Hausdorff")]
    for variant, score in scored["scores"].items():
        interval = "one case: none" if score["interval"] is None else _span(score["interval"]["total"])
        rows.append(
            (variant, _four(score["total"]), interval, _four(score["dice"]), _four(score["hausdorff"]))
        )
    return f"{title} (interval: {resamples} resamples of the cases)\n{_table(rows)}"


def _by(name: str, records: Iterable[Mapping[str, Any]]) -> str:
    return _table([(name, "score", "Dice", "Hausdorff"), *(_scored(one[name], one) for one in records)])


def _worst(records: Sequence[Mapping[str, Any]]) -> str:
    rows = [("worst scans", "score", "Dice", "Hausdorff", "fold")]
    return _table([*rows, *((*_scored(one["scan"], one), one["fold"]) for one in records)])


def _scored(name: object, one: Mapping[str, Any]) -> tuple[str, ...]:
    return str(name), _four(one["total"]), _four(one["dice"]), _four(one["hausdorff"])


def _four(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"


def _span(bounds: Sequence[float]) -> str:
    return " to ".join(map(_four, bounds))


def _join(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _table(rows: Sequence[_Row]) -> str:
    """Columns of equal width, two spaces between."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
