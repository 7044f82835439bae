"""What a fold measured epoch by epoch: ``metrics.csv`` and the picture of its curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from gitract_kit.files import atomic_path

__all__ = ["History"]


class History:
    """The rows of ``metrics.csv``, one an epoch; rows that a resumed run would write again are cut off."""

    def __init__(self, folder: Path, rows: list[dict[str, float]] | None = None) -> None:
        self._folder = folder
        self.rows = list(rows or [])

    def add(self, row: Mapping[str, float]) -> None:
        """Append one epoch and write the table and the picture anew."""
        self.rows.append(dict(row))
        with atomic_path(self._folder / "metrics.csv") as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False, float_format="%.6g")
        with atomic_path(self._folder / "curves.png") as temporary:
            self._draw().savefig(temporary, dpi=110)

    def _draw(self) -> Figure:
        table = pd.DataFrame(self.rows)
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        losses, scores = figure.subplots(1, 2)
        losses.plot(table["epoch"], table["train_loss"], marker=".", label="training loss")
        losses.plot(table["epoch"], table["val_loss"], marker=".", label="validation loss")
        for name, label in (("score", "score"), ("dice", "Dice"), ("hausdorff", "Hausdorff distance")):
            scores.plot(table["epoch"], table[name], marker=".", label=label)
        scores.set_ylim(0, 1)
        for axes in (losses, scores):
            axes.set_xlabel("epoch")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
        return figure
