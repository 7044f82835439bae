"""A comparison of runs as files: ``compare.md`` with its picture ``compare.png``, and the same as one HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from gitract_kit.data.overlay import PALETTE
from gitract_kit.errors import SettingsError
from gitract_kit.files import write_bytes_atomic, write_text_atomic
from gitract_kit.report.charts import Strip, draw_strips
from gitract_kit.report.compare_table import Cell, describe, settings_rows, table_head, table_rows
from gitract_kit.report.comparison import Comparison, compare
from gitract_kit.report.gallery import draw_gallery
from gitract_kit.report.page import color_key, fill_page, learning_curves
from gitract_kit.report.tables import organ_label

__all__ = ["compare_runs", "markdown_table"]

_NUMERIC = "0123456789-\u2013"
"""What a number, or the dash for none, begins with."""


def compare_runs(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    work: str | Path | None = None,
    slices: int = 5,
) -> tuple[Comparison, list[Path]]:
    """Compare ``runs`` on the held-out scans that all have; return it and the files written into the folder ``out``.

    ``slices`` is how many of them the picture shows, and ``work`` the prepared folder, where it is not where the runs
    were trained from. Runs that cannot be compared are a `SettingsError` that names what differs.
    """
    if slices < 1:
        raise SettingsError(f"slices is {slices}; a picture takes 1 or more")
    comparison = compare(runs, work)
    picture = draw_gallery(comparison, slices)
    out = Path(out)
    written = [out / "compare.md", out / "compare.png", out / "compare.html"]
    # the page last: what it and the text speak of is there by then
    write_bytes_atomic(written[1], picture)
    write_text_atomic(written[0], _markdown(comparison))
    write_text_atomic(written[2], _page(comparison, picture))
    return comparison, written


def markdown_table(comparison: Comparison) -> str:
    """Return the table as Markdown: a row a model, the best of a column bold."""
    return _as_markdown([table_head(comparison), *table_rows(comparison)])


def _markdown(comparison: Comparison) -> str:
    notes = "\n".join(f"- **{term}**: {text}" for term, text in describe(comparison).items())
    blocks = [
        f"# {_title(comparison)}",
        markdown_table(comparison),
        notes,
        f"![{_alternative(comparison)}](compare.png)",
        "## Settings that differ",
    ]
    differing = settings_rows(comparison)
    blocks.append(_as_markdown(differing) if len(differing) > 1 else "None.")
    return "\n\n".join(blocks) + "\n"


def _as_markdown(rows: Sequence[Sequence[Cell]]) -> str:
    texts = [[_markdown_cell(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [_line([cell.ljust(width) for cell, width in zip(row, widths, strict=True)]) for row in texts]
    numeric = [all(cell.text[:1] in _NUMERIC for cell in column) for column in zip(*rows[1:], strict=True)]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)]
    return "\n".join([lines[0], _line(rule), *lines[1:]])


def _markdown_cell(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    return f"**{text}**" if cell.best else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _page(comparison: Comparison, picture: bytes) -> str:
    curves = {model.label: list(model.contents.curves.values()) for model in comparison.models}
    notes = describe(comparison)
    return fill_page(
        "compare.html",
        title=escape(_title(comparison)),
        notes="".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in notes.items()),
        table=_as_html("comparison", [table_head(comparison), *table_rows(comparison)]),
        picture=base64.b64encode(picture).decode("ascii"),
        alternative=escape(_alternative(comparison)),
        distributions=color_key(curves) + f'<div class="charts">{_distributions(comparison)}</div>',
        curves=learning_curves(curves),
        differing=_as_html("differing", settings_rows(comparison)),
    )


def _as_html(name: str, rows: Sequence[Sequence[Cell]]) -> str:
    head, *body = rows
    heads = "".join(f'<th scope="col">{escape(cell.text)}</th>' for cell in head)
    lines = "".join(f"<tr>{''.join(map(_html_cell, row, range(len(row))))}</tr>" for row in body)
    return f'<table id="{name}"><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>'


def _html_cell(cell: Cell, column: int) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.best else escape(cell.text)
    return f'<th scope="row">{text}</th>' if column == 0 else f"<td>{text}</td>"


def _distributions(comparison: Comparison) -> str:
    return "".join(_strips(comparison, organ) for organ in comparison.organs)


def _strips(comparison: Comparison, organ: str) -> str:
    strips = []
    for k, model in enumerate(comparison.models):
        parts = model.scored.parts[model.scored.parts["organ"] == organ]
        dice = (parts["dice_sum"] / parts["dice_rows"]).tolist()
        strips.append(Strip(model.label, k % len(PALETTE), dice, parts["scan"].tolist()))
    return draw_strips(f"Dice, {organ_label(organ)}", strips, 1.0)


def _title(comparison: Comparison) -> str:
    *others, last = (model.label for model in comparison.models)
    return f"{', '.join(others)} and {last} compared"


def _alternative(comparison: Comparison) -> str:
    labels = ", ".join(model.label for model in comparison.models)
    return f"Held-out slices with the organs' outlines; columns: truth, {labels}"
