"""One HTML file that shows a run or a submission: no network, nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from gitract_kit import __version__
from gitract_kit.competition.metric import Score
from gitract_kit.data.overlay import PALETTE
from gitract_kit.errors import SettingsError
from gitract_kit.files import write_text_atomic
from gitract_kit.report.charts import Line, Strip, draw_lines, draw_strips
from gitract_kit.report.contents import Contents, read_run, read_submission_and_truth
from gitract_kit.report.scores import compute_parts, group_scores
from gitract_kit.report.slices import describe_scan
from gitract_kit.report.tables import organ_label, scan_table, score_table

__all__ = ["write_report", "write_submission_report"]


def write_report(
    run: str | Path, out: str | Path | None = None, *, work: str | Path | None = None, max_scans: int = 20
) -> Path:
    """Write the report of a run folder and return its path, ``run/report.html`` where ``out`` is None.

    It shows the score of the held-out scans by organ and fold, the learning curves, every scan's scores, and the
    slices of the ``max_scans`` worst scans with true and predicted outlines. ``work`` is the prepared folder, where it
    is no longer where the run was trained from. A folder that is not a run is a `DatasetError`.
    """
    contents = read_run(run, work)
    return _write(contents, Path(out or Path(run) / "report.html"), max_scans)


def write_submission_report(
    submission: str | Path,
    truth: str | Path,
    root: str | Path,
    out: str | Path,
    *,
    split: str = "test",
    max_scans: int = 20,
) -> Path:
    """Write the report of a submission whose truth is known to ``out`` and return its path.

    ``truth`` is a ``train.csv`` or ``solution.csv`` and ``root`` the competition folder whose ``split`` holds the
    slices; those that all three have are shown.
    """
    return _write(read_submission_and_truth(submission, truth, root, split), Path(out), max_scans)


def _write(contents: Contents, out: Path, max_scans: int) -> Path:
    if max_scans < 0:
        raise SettingsError(f"max_scans is {max_scans}; it must be 0 or more")
    score, parts = compute_parts(contents)
    by_scan = group_scores(parts, ["scan"])["total"].sort_values(kind="stable")
    shown = {name: place for place, name in enumerate(by_scan.index[:max_scans])}
    write_text_atomic(out, _page(contents, score, parts, shown))
    return out


def _page(contents: Contents, score: Score, parts: pd.DataFrame, shown: Mapping[str, int]) -> str:
    return Template(_source("page.html")).substitute(
        title=escape(contents.title),
        style=_palette() + _source("page.css"),
        summary=_summary(score),
        facts=_facts(contents, score),
        score_table=score_table(parts, contents.organs),
        scan_options="".join(
            f'<option value="{place}">{escape(name)}</option>' for name, place in shown.items()
        ),
        scan_count=f"{len(shown)} of {score.scans}" if len(shown) < score.scans else str(len(shown)),
        organ_rows="".join(_organ_row(k, organ) for k, organ in enumerate(contents.organs)),
        scan_table=scan_table(parts, contents.index, contents.organs, shown),
        distributions=_distributions(parts, contents.organs),
        curves=_curves(contents.curves),
        scans=_scan_scripts(contents, shown),
        script=_source("page.js"),
        version=escape(__version__),
    )


def _source(name: str) -> str:
    return (resources.files("gitract_kit.report") / name).read_text(encoding="utf-8")


def _palette() -> str:
    """Return the organs' colours as CSS: as they are on the slices, and deep enough for lines on white."""
    colors = [f"--c{k}:rgb{color};" for k, color in enumerate(PALETTE)]
    deep = [
        f"--c{k}-deep:rgb{tuple(round(0.68 * part) for part in color)};" for k, color in enumerate(PALETTE)
    ]
    bright = [f"--c{k}-deep:var(--c{k});" for k in range(len(PALETTE))]
    classes = [f".c{k}{{--color:var(--c{k});--deep:var(--c{k}-deep)}}" for k in range(len(PALETTE))]
    dark = f"@media (prefers-color-scheme:dark){{:root{{{''.join(bright)}}}}}"
    return f":root{{{''.join(colors + deep)}}}{dark}{''.join(classes)}\n"


def _summary(score: Score) -> str:
    values = {"Score": score.total, "Dice": score.dice, "Hausdorff": score.hausdorff}
    return "".join(f"<div><dt>{name}</dt><dd>{value:.4f}</dd></div>" for name, value in values.items())


def _facts(contents: Contents, score: Score) -> str:
    facts = {
        "Variant": f"{score.variant} (0.4 x Dice + 0.6 x (1 - Hausdorff distance); higher is better)",
        **contents.facts,
        "Scored": f"{score.scans:,} scans, {score.rows:,} rows, {score.rows_both_empty:,} of them empty on both sides",
    }
    if score.ids_left_out:
        facts["Left out"] = f"{score.ids_left_out:,} slices that only one of the tables has"
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())


def _organ_row(k: int, organ: str) -> str:
    check = f'<label><input type="checkbox" data-organ="{k}" checked><span class="swatch c{k % len(PALETTE)}"></span>'
    cells = "<td></td>" * 3
    return f'<tr><th scope="row">{check}{escape(organ_label(organ))}</label></th>{cells}</tr>'


def _distributions(parts: pd.DataFrame, organs: tuple[str, ...]) -> str:
    dice = draw_strips(
        "Dice, mean over slices", _strips(parts, parts["dice_sum"] / parts["dice_rows"], organs), 1.0
    )
    # good distances are all close to 0, so the axis ends at the worst
    farthest = max(0.1, parts["hausdorff"].fillna(0.0).max())
    return dice + draw_strips("Hausdorff distance", _strips(parts, parts["hausdorff"], organs), farthest)


def _strips(parts: pd.DataFrame, values: pd.Series, organs: tuple[str, ...]) -> list[Strip]:
    strips = []
    for k, organ in enumerate(organs):
        mine = parts["organ"] == organ
        names = parts["scan"][mine].tolist()
        strips.append(Strip(organ_label(organ), k % len(PALETTE), values[mine].tolist(), names))
    return strips


def _curves(curves: Mapping[int, pd.DataFrame]) -> str:
    """Return the section of the learning curves, empty where there are none."""
    if not curves:
        return ""
    loss = [line for k, fold in enumerate(curves) for line in _loss_lines(k, fold, curves[fold])]
    charts = [draw_lines("Loss (solid validation, dashed training)", "epoch", loss)]
    for title, column in (("Score", "score"), ("Dice", "dice"), ("Hausdorff distance", "hausdorff")):
        lines = [
            Line(f"fold {fold}", k % len(PALETTE), list(table["epoch"]), list(table[column]))
            for k, (fold, table) in enumerate(curves.items())
        ]
        charts.append(draw_lines(title, "epoch", lines, (0.0, 1.0)))
    keys = "".join(
        f'<li><span class="swatch deep c{k % len(PALETTE)}"></span>fold {fold}</li>'
        for k, fold in enumerate(curves)
    )
    body = f'<ul class="key">{keys}</ul><div class="charts">{"".join(charts)}</div>'
    return f'<section id="curves"><h2>Learning curves</h2>{body}</section>'


def _loss_lines(k: int, fold: int, table: pd.DataFrame) -> list[Line]:
    color, epochs = k % len(PALETTE), list(table["epoch"])
    return [
        Line(f"fold {fold}, validation", color, epochs, list(table["val_loss"])),
        Line(f"fold {fold}, training", color, epochs, list(table["train_loss"]), dashed=True),
    ]


def _scan_scripts(contents: Contents, shown: Mapping[str, int]) -> str:
    """Return a block of JSON a scan, which the page reads when the scan is chosen."""
    blocks = []
    for name, place in shown.items():
        scan = describe_scan(contents, contents.index[contents.index["scan"] == name])
        blocks.append(f'<script type="application/json" id="scan-{place}">{_as_script(scan)}</script>')
    return "\n".join(blocks)


def _as_script(value: Any) -> str:
    # a "<" could end the element it stands in
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
