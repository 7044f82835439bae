"""One HTML file that shows a run or a submission: no network, nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from gitract_kit.competition.metric import VARIANTS
from gitract_kit.competition.score_sums import score_by
from gitract_kit.data.overlay import PALETTE
from gitract_kit.errors import SettingsError
from gitract_kit.files import write_text_atomic
from gitract_kit.report.charts import Strip, draw_strips
from gitract_kit.report.contents import Contents, read_run, read_submission_and_truth
from gitract_kit.report.found_settings import found_settings, is_about
from gitract_kit.report.page import fill_page, learning_curves, source
from gitract_kit.report.scores import RESAMPLES, Scored, score_contents
from gitract_kit.report.slices import describe_scan
from gitract_kit.report.tables import interval_of, organ_label, scan_table, score_table, variant_table

__all__ = ["write_report", "write_submission_report"]


def write_report(
    run: str | Path, out: str | Path | None = None, *, work: str | Path | None = None, max_scans: int = 20
) -> Path:
    """Write the report of a run folder and return its path, ``run/report.html`` where ``out`` is None.

    It shows the score of the held-out scans by variant, organ and fold, what `gitract evaluate` found, the learning
    curves, every scan's scores, and the slices of the ``max_scans`` worst scans with true and predicted outlines.
    ``work`` is the prepared folder, where it is no longer where the run was trained from. A folder that is not a run
    is a `DatasetError`.
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
    scored = score_contents(contents)
    by_scan = score_by(scored[VARIANTS[0]].parts, "scan")["total"].sort_values(kind="stable")
    shown = {name: place for place, name in enumerate(by_scan.index[:max_scans])}
    write_text_atomic(out, _page(contents, scored, shown))
    return out


def _page(contents: Contents, scored: Mapping[str, Scored], shown: Mapping[str, int]) -> str:
    score, parts = scored[VARIANTS[0]].score, scored[VARIANTS[0]].parts
    current = contents.evaluation is not None and is_about(contents.evaluation, score.total)
    return fill_page(
        "page.html",
        title=escape(contents.title),
        summary=_summary(scored[VARIANTS[0]]),
        facts=_facts(contents, scored[VARIANTS[0]], current=current),
        variant_table=variant_table(scored),
        score_table=score_table(parts, contents.organs),
        settings=found_settings(contents.evaluation) if current else "",
        scan_options="".join(
            f'<option value="{place}">{escape(name)}</option>' for name, place in shown.items()
        ),
        scan_count=f"{len(shown)} of {score.scans}" if len(shown) < score.scans else str(len(shown)),
        organ_rows="".join(_organ_row(k, organ) for k, organ in enumerate(contents.organs)),
        scan_table=scan_table(parts, contents.index, contents.organs, shown),
        distributions=_distributions(parts, contents.organs),
        curves=learning_curves({f"fold {fold}": [table] for fold, table in contents.curves.items()}),
        scans=_scan_scripts(contents, shown),
        script=source("page.js"),
    )


def _summary(scored: Scored) -> str:
    names = {"total": "Score", "dice": "Dice", "hausdorff": "Hausdorff"}
    return "".join(
        f"<div><dt>{label}</dt><dd>{getattr(scored.score, name):.4f}{interval_of(scored, name)}</dd></div>"
        for name, label in names.items()
    )


def _facts(contents: Contents, scored: Scored, *, current: bool) -> str:
    score = scored.score
    facts = {
        "Variant": f"{score.variant} (0.4 x Dice + 0.6 x (1 - Hausdorff distance); higher is better)",
        **contents.facts,
        "Scored": f"{score.scans:,} scans, {score.rows:,} rows, {score.rows_both_empty:,} of them empty on both sides",
    }
    if scored.interval is not None:
        cases = scored.parts["case"].nunique()
        facts["Intervals"] = (
            f"95 % of {RESAMPLES:,} resamples of the {cases} cases, not scans: a case's days are alike"
        )
    if score.ids_left_out:
        facts["Left out"] = f"{score.ids_left_out:,} slices that only one of the tables has"
    if current and contents.evaluation.get("search"):
        facts["Masks"] = "by the settings that gitract evaluate left this run with, below"
    elif contents.evaluation is not None and not current:
        facts["Not shown"] = (
            "evaluation.json, which is of another state of this run: run gitract evaluate again"
        )
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
