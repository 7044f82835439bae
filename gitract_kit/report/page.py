"""What every page of the report is made of: its templates, its colours, its learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template

import pandas as pd

from gitract_kit import __version__
from gitract_kit.data.overlay import PALETTE
from gitract_kit.report.charts import Line, draw_lines

__all__ = ["color_key", "fill_page", "learning_curves", "source"]


def fill_page(template: str, **parts: str) -> str:
    """Return the page that ``template``, a file of this folder, becomes with ``parts``, its style among them."""
    style = _palette() + source("page.css")
    return Template(source(template)).substitute(style=style, version=__version__, **parts)


def source(name: str) -> str:
    """Return the text of a file of this folder."""
    return (resources.files("gitract_kit.report") / name).read_text(encoding="utf-8")


def learning_curves(curves: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Return the section of the learning curves, a colour a label, a line a table (``metrics.csv``); "" without any."""
    if not any(curves.values()):
        return ""
    loss = [line for k, label in enumerate(curves) for line in _loss_lines(k, label, curves[label])]
    charts = [draw_lines("Loss (solid validation, dashed training)", "epoch", loss)]
    for title, column in (("Score", "score"), ("Dice", "dice"), ("Hausdorff distance", "hausdorff")):
        lines = [
            Line(label, k % len(PALETTE), list(table["epoch"]), list(table[column]))
            for k, (label, tables) in enumerate(curves.items())
            for table in tables
        ]
        charts.append(draw_lines(title, "epoch", lines, (0.0, 1.0)))
    body = f'{color_key(list(curves))}<div class="charts">{"".join(charts)}</div>'
    return f'<section id="curves"><h2>Learning curves</h2>{body}</section>'


def color_key(labels: Sequence[str]) -> str:
    """Return a list that says which colour is whose."""
    keys = "".join(
        f'<li><span class="swatch deep c{k % len(PALETTE)}"></span>{escape(label)}</li>'
        for k, label in enumerate(labels)
    )
    return f'<ul class="key">{keys}</ul>'


def _loss_lines(k: int, label: str, tables: Sequence[pd.DataFrame]) -> list[Line]:
    color, lines = k % len(PALETTE), []
    for table in tables:
        epochs = list(table["epoch"])
        lines.append(Line(f"{label}, validation", color, epochs, list(table["val_loss"])))
        lines.append(Line(f"{label}, training", color, epochs, list(table["train_loss"]), dashed=True))
    return lines


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
