"""What the search of settings found for a run, as HTML: the settings, and what they gain on scans left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gitract_kit.competition.metric import VARIANTS
from gitract_kit.report.drawing import SETTING_LABELS
from gitract_kit.report.tables import organ_label

__all__ = ["found_settings", "is_about"]


def is_about(evaluation: Mapping[str, Any], total: float) -> bool:
    """Return whether the evaluation is of the masks that score ``total``, not of an earlier state of the run."""
    told = evaluation.get("chosen", evaluation["own"])["scores"][VARIANTS[0]]["total"]
    return told is not None and abs(told - total) < 1e-9


def found_settings(evaluation: Mapping[str, Any]) -> str:
    """Return the section about ``evaluation``, the content of an evaluation.json; empty where nothing was searched."""
    found = evaluation.get("search")
    if not found:
        return ""
    tables = _gain_table(found) + _settings_table(evaluation)
    return f'<section id="settings"><h2>Settings</h2><p class="note">{_verdict(found)}</p>{tables}</section>'


def _verdict(found: Mapping[str, Any]) -> str:
    kind, tried = found["left_out"], f"{found['tried']:,} settings tried for each organ"
    if found["left_out_total"] is None:
        return f"{tried}. With one {kind} alone nothing can be left out, so the own settings stay."
    if not found["kept"]:
        return f"{tried}. Scans that had no part in the choice gain nothing by it: the own settings stay."
    # the better of two was picked by the very scans that tell of it
    less = (
        ", or a little less, as it is the better of two searches" if len(found["left_out_totals"]) > 1 else ""
    )
    return f"{tried}; kept. The gain to expect elsewhere is that with each {kind} left out of the choice in turn{less}."


def _gain_table(found: Mapping[str, Any]) -> str:
    rows = [
        ("Own settings", found["own_total"], None),
        ("Fitted to these scans", found["fitted_total"], found["fitted_gain"]),
    ]
    if found["left_out_total"] is not None:
        left_out = f"Each {found['left_out']} left out ({found['groups']})"
        rows.append((left_out, found["left_out_total"], found["left_out_gain"]))
    body = "".join(_gain_row(*row) for row in rows)
    head = '<tr><td></td><th scope="col">Score</th><th scope="col">Gain</th></tr>'
    return _scrolling("gains", "Gain of the searched settings", head, body)


def _gain_row(label: str, total: float, gain: float | None) -> str:
    gained = "&ndash;" if gain is None else f"{gain:+.4f}".replace("-", "&minus;")
    return f'<tr><th scope="row">{escape(label)}</th><td>{total:.4f}</td><td>{gained}</td></tr>'


def _settings_table(evaluation: Mapping[str, Any]) -> str:
    """A row a setting, a column an organ: the own value, and the fitted one where it is another."""
    own, fitted = evaluation["own"]["prediction"], evaluation["search"]["settings"]
    organs = evaluation["organs"]
    body = "".join(
        _setting_row(SETTING_LABELS.get(name, name), own[name], values, organs)
        for name, values in fitted.items()
        if evaluation.get("gates") or not name.startswith("gate_")
    )
    heads = "".join(f'<th scope="col">{escape(organ_label(organ))}</th>' for organ in organs)
    head = f'<tr><th scope="col">Own &rarr; fitted</th>{heads}</tr>'
    return _scrolling("found", "Settings by organ", head, body)


def _setting_row(
    label: str, own: Mapping[str, float], fitted: Mapping[str, float], organs: Sequence[str]
) -> str:
    cells = "".join(f"<td>{_change(own[organ], fitted[organ])}</td>" for organ in organs)
    return f'<tr><th scope="row">{escape(label[0].upper() + label[1:])}</th>{cells}</tr>'


def _change(own: float, fitted: float) -> str:
    return f"{own:g}" if own == fitted else f"{own:g} &rarr; <b>{fitted:g}</b>"


def _scrolling(name: str, label: str, head: str, body: str) -> str:
    table = f'<table id="{name}"><thead>{head}</thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll narrow" tabindex="0" role="region" aria-label="{label}">{table}</div>'
