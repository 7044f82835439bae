"""One fold, trained: checkpoints, metrics, pictures, and the best weights with what rebuilds the network."""

from __future__ import annotations

import math
import platform
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from gitract_kit.data.dataset import SliceDataset
from gitract_kit.data.prepare import Prepared, load_prepared, prepare
from gitract_kit.data.sampling import EpochDraws
from gitract_kit.errors import SettingsError, TrainingError
from gitract_kit.models import create_loss, create_model
from gitract_kit.models.forward import autocast, select_precision
from gitract_kit.models.initial import load_initial_weights
from gitract_kit.settings import Settings, load_preset, override_settings, settings_to_dict
from gitract_kit.training.averaging import create_epoch_average, create_moving_average
from gitract_kit.training.checkpoint import load_newest_checkpoint, save_checkpoint, save_weights
from gitract_kit.training.history import History
from gitract_kit.training.loading import create_loader
from gitract_kit.training.mixing import mix_batch
from gitract_kit.training.optimizers import create_optimizer
from gitract_kit.training.schedule import Schedule
from gitract_kit.training.validation import Validation, write_oof

__all__ = ["FoldResult", "train_fold", "train_from_root"]


@dataclass(frozen=True)
class FoldResult:
    """What training a fold left behind."""

    folder: Path
    """``RUN/fold_K``: model.safetensors, model.json, metrics.csv, curves.png, overlays/, oof/."""
    epoch: int
    """The epoch whose weights were kept; one past the last is the average of `training.swa_epochs`."""
    score: float
    """Their score on the held-out scans."""

    def __str__(self) -> str:
        return f"score {self.score:.4f} in epoch {self.epoch}, kept in {self.folder}"


def train_fold(
    work: str | Path,
    run: str | Path,
    settings: Settings,
    fold: int,
    *,
    resume: bool = False,
    device: str | None = None,
    progress: bool = True,
) -> FoldResult:
    """Train fold ``fold`` of the prepared folder ``work`` into ``run/fold_K`` and return what was kept.

    The weights with the best score on the fold's held-out scans are kept. With ``resume`` the newest checkpoint is
    gone on from. A folder that already holds a run is a `SettingsError` without it.
    """
    prepared = load_prepared(work)
    settings = replace(settings, organs=prepared.organs, layout=prepared.layout)
    folder = Path(run) / f"fold_{fold}"
    _check_can_start(folder, prepared, fold, resume)
    trainer = _Trainer(prepared, settings, fold, folder, torch.device(device or _default_device()), progress)
    if not (resume and trainer.resume()):
        trainer.load_initial_weights()
    return trainer.fit()


def train_from_root(
    root: str | Path, work: str | Path, run: str | Path, preset: str, fold: int, changes: Iterable[str] = ()
) -> FoldResult:
    """Prepare the competition folder ``root`` and train one fold of it: what the training kernel calls.

    ``preset`` is a shipped recipe and ``changes`` are assignments such as ``training.epochs=3``. The folds are
    those of the default seed, so that every kernel holds out the same cases.
    """
    settings = override_settings(load_preset(preset), changes)
    prepare(root, work)
    return train_fold(work, run, settings, fold)


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_can_start(folder: Path, prepared: Prepared, fold: int, resume: bool) -> None:
    if fold not in prepared.folds:
        raise SettingsError(f"there is no fold {fold}; the prepared folder has folds {prepared.folds}")
    if not resume and folder.is_dir() and any(folder.iterdir()):
        raise SettingsError(f"{folder} already holds a run; go on with --resume, or choose another folder")


class _Trainer:
    """The state of a fold's training: what a checkpoint holds."""

    def __init__(
        self,
        prepared: Prepared,
        settings: Settings,
        fold: int,
        folder: Path,
        device: torch.device,
        progress: bool,
    ) -> None:
        self.settings, self.fold, self.folder, self.device, self.progress = (
            settings,
            fold,
            folder,
            device,
            progress,
        )
        self.fingerprint, self.work = prepared.fingerprint, prepared.scan_folder.parent.resolve()
        index = prepared.index
        training = index[index["fold"] != fold]
        if settings.training.drop_bad_scans:
            training = training[~training["bad_scan"]]
        held_out = index[index["fold"] == fold]
        self.data = SliceDataset(training, prepared.scan_folder, settings, augment=True)
        self.validation = Validation(
            SliceDataset(held_out, prepared.scan_folder, settings, augment=False), held_out, settings
        )
        self.draws = EpochDraws(self.data.holds_organ(), settings.training, self.data.scan_of_sample())
        self.loader = create_loader(
            self.data, self.draws, settings.training, pin_memory=self.device.type == "cuda"
        )
        self._create_network()
        self.history = History(folder)
        self.epoch, self.batch = 0, 0
        self.best, self.best_epoch = -math.inf, 0

    def _create_network(self) -> None:
        chosen = self.settings.training
        torch.manual_seed(chosen.seed)
        network = create_model(
            self.settings.model, in_channels=self.settings.window.slices, classes=len(self.settings.organs)
        )
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.loss = create_loss(chosen.loss)
        self.average = create_moving_average(self.network, chosen.ema_decay) if chosen.ema_decay else None
        self.swa = create_epoch_average(self.network) if chosen.swa_epochs else None
        self.optimizer = create_optimizer(self.network.parameters(), chosen)
        self.schedule = Schedule(
            self.optimizer, chosen, steps_per_epoch=math.ceil(len(self.loader) / chosen.accumulate)
        )
        self.precision = select_precision(self.device, chosen.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)

    def fit(self) -> FoldResult:
        """Train the epochs that are left, and write the held-out probabilities of the kept weights."""
        while self.epoch < self.settings.training.epochs and not self._has_stalled():
            started = time.monotonic()
            train_loss = self._train_epoch()
            self._finish_epoch(train_loss, time.monotonic() - started)
        if self.swa is not None:
            self._score_swa()
        self._load_best()
        write_oof(self.validation, self.network, self.device, self.precision, self.folder / "oof")
        return FoldResult(self.folder, self.best_epoch, self.best)

    def _has_stalled(self) -> bool:
        patience = self.settings.training.early_stop
        return patience > 0 and self.epoch - self.best_epoch >= patience

    def _train_epoch(self) -> float:
        self.network.train()
        self.draws.epoch = self.epoch
        total = 0.0
        with tqdm(
            self.loader, desc=f"fold {self.fold} epoch {self.epoch + 1}", disable=not self.progress
        ) as bar:
            for self.batch, (images, masks) in enumerate(bar):
                loss = self._step(images, masks)
                total += loss
                bar.set_postfix(loss=f"{loss:.3f}")
        return total / len(self.loader)

    def _step(self, images: torch.Tensor, masks: torch.Tensor) -> float:
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        masks = masks.to(self.device, non_blocking=True)
        images, masks = mix_batch(images, masks, self.settings.training, epoch=self.epoch, step=self.batch)
        with autocast(self.device, self.precision):
            logits = self.network(images)
        loss = self.loss(logits, masks)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} in epoch {self.epoch + 1}; the last good state is in {self.folder}: "
                "go on from it with --resume and a lower training.learning_rate"
            )
        self._descend(loss)
        return value

    def _descend(self, loss: torch.Tensor) -> None:
        """Add the gradient of ``loss`` to its group's, and step where the group is full or the epoch ends."""
        position = self.batch % self.settings.training.accumulate
        first = self.batch - position
        group = min(self.settings.training.accumulate, len(self.loader) - first)
        if position == 0:
            self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss / group).backward()
        if position < group - 1:
            return
        self.scaler.unscale_(self.optimizer)
        if self.settings.training.gradient_clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.training.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.after_step()
        if self.average is not None:
            self.average.update_parameters(self.network)

    def _finish_epoch(self, train_loss: float, train_seconds: float) -> None:
        self.epoch += 1
        score = self._score(self._scored(), self.epoch, train_loss, train_seconds)
        self.schedule.after_epoch(score)
        chosen = self.settings.training
        if self.swa is not None and self.epoch > chosen.epochs - chosen.swa_epochs:
            self.swa.update_parameters(self._scored())
        save_checkpoint(self.folder, self.epoch, self._state())
        if self.progress:
            tqdm.write(f"epoch {self.epoch}: loss {train_loss:.3f}, score {score:.4f}", file=sys.stderr)

    def _score_swa(self) -> None:
        started = time.monotonic()
        self.draws.epoch = self.epoch
        update_bn(self.loader, self.swa.module, self.device)
        self._score(self.swa.module, self.epoch + 1, math.nan, time.monotonic() - started)

    def _score(self, network: torch.nn.Module, epoch: int, train_loss: float, train_seconds: float) -> float:
        """Return the held-out score of ``network``, written down as that of ``epoch``; the best one is kept."""
        overlay = self.folder / "overlays" / f"epoch_{epoch:03d}.png"
        val_loss, score = self.validation.run(network, self.loss, self.device, self.precision, overlay)
        # plain numbers: a checkpoint, which is read without unpickling, takes no NumPy scalars
        row = {
            "epoch": epoch,
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "train_loss": train_loss,
            "val_loss": val_loss,
            "score": float(score.total),
            "dice": float(score.dice),
            "hausdorff": float(score.hausdorff),
            "train_seconds": train_seconds,
        }
        self.history.add(row)
        if row["score"] > self.best:
            self.best, self.best_epoch = row["score"], epoch
            save_weights(self.folder, network.state_dict(), self._about(row))
        return row["score"]

    def _scored(self) -> torch.nn.Module:
        return self.network if self.average is None else self.average.module

    def _about(self, row: dict[str, float]) -> dict[str, Any]:
        return {
            "settings": settings_to_dict(self.settings),
            "fold": self.fold,
            "epoch": row["epoch"],
            "score": {"total": row["score"], "dice": row["dice"], "hausdorff": row["hausdorff"]},
            "data_fingerprint": self.fingerprint,
            "work": str(self.work),
            "versions": _versions(),
        }

    def _load_best(self) -> None:
        self.network.load_state_dict(load_file(self.folder / "model.safetensors"))

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "history": self.history.rows,
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "swa": None if self.swa is None else self.swa.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def resume(self) -> bool:
        """Take up the newest readable checkpoint and return whether there was one."""
        found = load_newest_checkpoint(self.folder)
        if found is None:
            return False
        _, state = found
        self.epoch, self.best, self.best_epoch = state["epoch"], state["best"], state["best_epoch"]
        self.history = History(self.folder, state["history"])
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.swa is not None:
            self.swa.load_state_dict(state["swa"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        return True

    def load_initial_weights(self) -> None:
        """Start from the weights of another run where the settings name one, and say which tensors it left alone."""
        path = self.settings.model.initial_weights
        if path is None:
            return
        left = load_initial_weights(self.network, path)
        if left:
            tqdm.write(f"{path} leaves {len(left)} tensors as they are: {', '.join(left)}", file=sys.stderr)


def _versions() -> dict[str, str]:
    packages = ("gitract-kit", "torch", "timm", "segmentation-models-pytorch", "albumentations", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
