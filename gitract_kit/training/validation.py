"""Held-out scans during and after training: their probabilities, their score, their pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from gitract_kit.competition.metric import Score, competition_score
from gitract_kit.competition.rle import rle_encode_batch
from gitract_kit.data.dataset import SliceDataset
from gitract_kit.data.inputs import ScanInputs
from gitract_kit.data.overlay import contact_sheet, draw_outlines, slices_worth_showing, to_gray
from gitract_kit.files import atomic_path, write_bytes_atomic
from gitract_kit.models.forward import autocast, predict_planes
from gitract_kit.settings import Settings

__all__ = ["Validation", "write_oof"]

_OVERLAYS = 6


class Validation:
    """The held-out scans of a fold."""

    def __init__(self, dataset: SliceDataset, index: pd.DataFrame, settings: Settings) -> None:
        self._dataset, self.index, self._settings = dataset, index, settings
        self._shown = slices_worth_showing(index, settings.organs, _OVERLAYS)

    def run(
        self,
        network: torch.nn.Module,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        device: torch.device,
        precision: torch.dtype | None,
        overlay_path: Path | None = None,
    ) -> tuple[float, Score]:
        """Return the mean loss and the score of the held-out scans; the overlays go to ``overlay_path``."""
        losses, tables, pictures = [], [], {}
        for name, logits, inputs in self._logits(network, device, precision):
            truth = self._dataset.masks_true(name)
            target = np.stack([[inputs.geometry.forward_mask(mask) for mask in organs] for organs in truth])
            losses.append(_loss_on(device, loss, logits, torch.from_numpy(target)))
            masks = inputs.geometry.inverse(logits.sigmoid().numpy()) >= 0.5
            tables.append(self._rows(name, masks))
            if overlay_path is not None:
                pictures.update(self._draw(name, truth, masks, inputs.intensity))
        if overlay_path is not None:
            _write_sheet(overlay_path, pictures)
        score = competition_score(self._truth(), pd.concat(tables), self.index, organs=self._settings.organs)
        return float(np.mean(losses)), score

    def probabilities(
        self, network: torch.nn.Module, device: torch.device, precision: torch.dtype | None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (scan name, probabilities (z, organ, y, x) float32 at the scan's own size)."""
        for name, logits, inputs in self._logits(network, device, precision):
            yield name, inputs.geometry.inverse(logits.sigmoid().numpy())

    def _logits(
        self, network: torch.nn.Module, device: torch.device, precision: torch.dtype | None
    ) -> Iterator[tuple[str, torch.Tensor, ScanInputs]]:
        network.eval()

        def apply(windows: torch.Tensor) -> torch.Tensor:
            with autocast(device, precision):
                return network(windows.contiguous(memory_format=torch.channels_last))

        batch_size = self._settings.training.batch_size * 2
        for name in self._dataset.scan_names:
            inputs = self._dataset.inputs(name)
            logits = predict_planes(
                apply, inputs.planes(), inputs.positions, device=device, batch_size=batch_size
            )
            yield name, torch.from_numpy(logits), inputs

    def _rows(self, name: str, masks: np.ndarray) -> pd.DataFrame:
        ids, organs = self._dataset.scan(name).ids, self._settings.organs
        columns = [rle_encode_batch(masks[:, number]) for number in range(len(organs))]
        table = pd.DataFrame(dict(zip(organs, columns, strict=True)), index=pd.Index(ids, name="id"))
        return _long(table.reset_index(), organs, "predicted")

    def _truth(self) -> pd.DataFrame:
        return _long(self.index, self._settings.organs, "segmentation")

    def _draw(
        self, name: str, truth: np.ndarray, masks: np.ndarray, intensity: tuple[float, float]
    ) -> dict[str, np.ndarray]:
        """Return pictures by caption of this scan's slices that are worth showing, truth solid, prediction dashed."""
        scan = self._dataset.scan(name)
        pictures = {}
        for position in (position for position, id_ in enumerate(scan.ids) if id_ in self._shown):
            gray = to_gray(scan.volume[position], *intensity)
            canvas = draw_outlines(gray, truth[position])
            pictures[scan.ids[position]] = draw_outlines(gray, masks[position], dashed=True, canvas=canvas)
        return pictures


def write_oof(
    validation: Validation,
    network: torch.nn.Module,
    device: torch.device,
    precision: torch.dtype | None,
    folder: Path,
) -> None:
    """Write the held-out probabilities, and ``index.csv``: the held-out slices with what is drawn on them.

    One ``SCAN.npz`` a scan: ``probabilities`` (z, organ, y, x) uint8, 255 is 1. The index makes the folder enough to
    score from, without the competition's files.
    """
    for name, probabilities in validation.probabilities(network, device, precision):
        with atomic_path(folder / f"{name}.npz") as temporary:
            np.savez_compressed(temporary, probabilities=np.rint(probabilities * 255).astype(np.uint8))
    with atomic_path(folder / "index.csv") as temporary:
        validation.index.to_csv(temporary, index=False)


def _loss_on(
    device: torch.device,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    logits: torch.Tensor,
    target: torch.Tensor,
) -> float:
    """The loss of a whole scan: Lovasz sorts all its pixels, which a CPU would do for longer than a GPU trains."""
    try:
        return float(loss(logits.to(device), target.to(device)))
    except torch.OutOfMemoryError:
        return float(loss(logits, target))


def _long(table: pd.DataFrame, organs: tuple[str, ...], value: str) -> pd.DataFrame:
    """Return a table with a column an organ as rows id, class, ``value``."""
    return table.melt(id_vars="id", value_vars=list(organs), var_name="class", value_name=value)


def _write_sheet(path: Path, pictures: dict[str, np.ndarray]) -> None:
    sheet = contact_sheet(list(pictures.values()), list(pictures))
    _, encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    write_bytes_atomic(path, encoded.tobytes())
