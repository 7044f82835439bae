"""One fold, trained: checkpoints, metrics, pictures, and the best weights with what rebuilds the network."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from gitract_kit.data.dataset import SliceDataset
from gitract_kit.data.postprocess import CleanUp, gate_limits
from gitract_kit.data.prepare import Prepared, adapt_settings, load_prepared
from gitract_kit.data.sampling import EpochDraws
from gitract_kit.errors import GitractError, SettingsError, TrainingError
from gitract_kit.files import remove_leftovers
from gitract_kit.models import create_loss, create_model
from gitract_kit.models.forward import autocast, select_precision
from gitract_kit.models.initial import load_initial_weights
from gitract_kit.settings import Settings, settings_to_dict
from gitract_kit.training.averaging import create_epoch_average
from gitract_kit.training.checkpoint import (
    load_newest_checkpoint,
    read_kept_weights,
    save_checkpoint,
    save_weights,
)
from gitract_kit.training.descent import Descent
from gitract_kit.training.endings import clear_ending, where_to_go_on
from gitract_kit.training.history import History
from gitract_kit.training.loading import create_loader
from gitract_kit.training.mixing import mix_batch
from gitract_kit.training.processes import Processes, join_processes
from gitract_kit.training.record import BEFORE_TRAINING, RunLog, describe_computing, write_record
from gitract_kit.training.resuming import check_may_go_on
from gitract_kit.training.validation import Validation, write_oof
from gitract_kit.versions import package_versions

__all__ = ["FoldResult", "train_fold"]


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
    gone on from. A folder that already holds a run is a `SettingsError` without it. Processes that torchrun started
    share every batch, each on a GPU of its own or all on CPUs; the result is the same in all of them.
    """
    prepared = load_prepared(work)
    settings = adapt_settings(settings, prepared.layout)
    folder = Path(run) / f"fold_{fold}"
    with join_processes(device) as processes:
        processes.from_main(lambda: _check_can_start(folder, prepared, settings, fold, resume))
        log = RunLog(folder if processes.main else None, shown=processes.main)
        try:
            with clear_ending(folder):
                trainer = _Trainer(prepared, settings, fold, folder, processes, log, progress)
                trainer.start(resume)
                return trainer.fit()
        except GitractError as error:
            log.note(f"ended: {error}")
            raise


def _check_can_start(folder: Path, prepared: Prepared, settings: Settings, fold: int, resume: bool) -> None:
    if fold not in prepared.folds:
        raise SettingsError(f"there is no fold {fold}; the prepared folder has folds {prepared.folds}")
    held_out = prepared.index[prepared.index["fold"] == fold]
    if not (held_out[list(prepared.organs)] != "").any(axis=None):
        raise SettingsError(
            f"the held-out scans of fold {fold} show no {' and no '.join(prepared.organs)}, so no score can choose "
            "its weights; prepare with fewer folds or another seed, or train the other folds alone"
        )
    # what only the bundle will use: after hours of training it would be late to learn of a wrong name
    CleanUp(settings.prediction, settings.organs)
    gate_limits(settings.prediction, settings.organs)
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not resume and found - BEFORE_TRAINING:
        raise SettingsError(f"{folder} already holds a run; go on with --resume, or choose another folder")


class _Trainer:
    """The state of a fold's training: what a checkpoint holds."""

    def __init__(
        self,
        prepared: Prepared,
        settings: Settings,
        fold: int,
        folder: Path,
        processes: Processes,
        log: RunLog,
        progress: bool,
    ) -> None:
        self.prepared, self.settings, self.fold, self.folder = prepared, settings, fold, folder
        self.processes, self.device, self.log = processes, processes.device, log
        self.progress = progress and processes.main
        index = prepared.index
        training = index[index["fold"] != fold]
        if settings.training.drop_bad_scans:
            training = training[~training["bad_scan"]]
        self.held_out = index[index["fold"] == fold]
        self.data = SliceDataset(training, prepared.scan_folder, settings, augment=True)
        self.draws = EpochDraws(self.data.holds_organ(), settings.training, self.data.scan_of_sample())
        self.loader = create_loader(self.data, self.draws, settings.training, processes)
        self.validation = self._create_validation() if processes.main else None
        self._create_network()
        self.history = History(folder)
        self.epoch, self.batch = 0, 0
        self.best, self.best_epoch = -math.inf, 0

    def _create_validation(self) -> Validation:
        slices = SliceDataset(self.held_out, self.prepared.scan_folder, self.settings, augment=False)
        return Validation(slices, self.held_out, self.settings)

    def _create_network(self) -> None:
        chosen = self.settings.training
        torch.manual_seed(chosen.seed)
        network = create_model(
            self.settings.model, in_channels=self.settings.window.slices, classes=len(self.settings.organs)
        )
        network = self.processes.normalising_together(network)
        self.network = network.to(self.device, memory_format=torch.channels_last)
        self.loss = create_loss(chosen.loss)
        self.precision = select_precision(self.device, chosen.precision)
        self.descent = Descent(self.network, chosen, len(self.loader), self.device, self.precision)
        self.swa = create_epoch_average(self.network) if chosen.swa_epochs else None
        # the same weights under other wrappings: what is scored and saved is always the network itself
        self.forward = self.processes.together(self.network)
        if chosen.compile:
            self.forward = torch.compile(self.forward)

    def start(self, resume: bool) -> None:
        """Write down what is about to be computed, from the newest checkpoint on or from the initial weights."""
        resumed = resume and self._resume()
        if self.processes.main:
            self._write_record()
        if not resumed:
            self._load_initial_weights()

    def _write_record(self) -> None:
        computing = describe_computing(
            self.device,
            self.precision,
            compiled=self.settings.training.compile,
            processes=self.processes.count,
        )
        slices = {"training": len(self.data), "held_out": len(self.held_out)}
        about = {**self._about(), "first_epoch": self.epoch + 1, "slices": slices, "computing": computing}
        write_record(self.folder, about)
        self.log.note(
            f"fold {self.fold} from epoch {self.epoch + 1}: {slices['training']} slices to learn from, "
            f"{slices['held_out']} held out; {computing['processes']} x {computing['device_name']} "
            f"({computing['device']}), {computing['precision']}"
        )
        if self.processes.normalise_apart(self.network):
            self.log.say(
                "batch normalisation sees one process's share of a batch at a time, since torch shares it among "
                "GPUs alone: the curves will not be quite those of one process"
            )

    def fit(self) -> FoldResult:
        """Train the epochs that are left, and write the held-out probabilities of the kept weights."""
        while self.epoch < self.settings.training.epochs and not self._has_stalled():
            started = time.monotonic()
            train_loss = self._train_epoch()
            self._finish_epoch(train_loss, time.monotonic() - started)
        if self.swa is not None:
            self._score_swa()
        self.processes.from_main(self._write_oof)
        result = FoldResult(self.folder, self.best_epoch, self.best)
        self.log.note(f"done: {result}")
        return result

    def _has_stalled(self) -> bool:
        patience = self.settings.training.early_stop
        return patience > 0 and self.epoch - self.best_epoch >= patience

    def _train_epoch(self) -> float:
        self.forward.train()
        self._begin_pass()
        total = 0.0
        with tqdm(
            self.loader, desc=f"fold {self.fold} epoch {self.epoch + 1}", disable=not self.progress
        ) as bar:
            for self.batch, (images, masks) in enumerate(bar):
                loss = self._step(images, masks)
                total += loss
                # drawn when the bar is due: where every line is kept, a log must not grow by one a step
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        return total / len(self.loader)

    def _begin_pass(self) -> None:
        """Let slices, and what a network drops out, follow from seed, epoch and process alone, also after --resume."""
        self.draws.epoch = self.epoch
        origin = np.random.SeedSequence([self.settings.training.seed, self.epoch, self.processes.rank])
        torch.manual_seed(int(origin.generate_state(1)[0]))

    def _step(self, images: torch.Tensor, masks: torch.Tensor) -> float:
        """Learn from one batch, of which this process has its share; return the loss of the whole."""
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        masks = self.processes.gather(masks.to(self.device, non_blocking=True))
        images, masks = self._mix(images, masks)
        with autocast(self.device, self.precision):
            logits = self.forward(images)
        # of the whole batch in every process: Dice and Lovasz are no means over its samples
        loss = self.loss(self.processes.gather(logits), masks)
        value = float(loss.detach())
        self._require_number(value, "the loss", self.epoch + 1)
        self.descent.add(loss * self.processes.count, self.batch)
        return value

    def _require_number(self, loss: float, name: str, epoch: int) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"{name} became {loss} in epoch {epoch}; {where_to_go_on(self.folder)} "
                "and a lower training.learning_rate"
            )

    def _mix(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix this process's ``images`` and the whole batch's ``masks`` with others of the whole batch."""
        chosen = self.settings.training
        if not chosen.mixup and not chosen.cutmix:
            return images, masks
        images = self.processes.gather(images)
        images, masks = mix_batch(images, masks, chosen, epoch=self.epoch, step=self.batch)
        return images[self.processes.share(len(images))], masks

    def _finish_epoch(self, train_loss: float, train_seconds: float) -> None:
        self.epoch += 1
        score = self._score(self.descent.scored, self.epoch, train_loss, train_seconds)
        self.descent.after_epoch(score)
        chosen = self.settings.training
        if self.swa is not None and self.epoch > chosen.epochs - chosen.swa_epochs:
            self.swa.update_parameters(self.descent.scored)
        self.processes.from_main(lambda: save_checkpoint(self.folder, self.epoch, self._state()))
        tell = self.log.say if self.progress else self.log.note
        tell(f"epoch {self.epoch}: loss {train_loss:.3f}, score {score:.4f}")

    def _score_swa(self) -> None:
        started = time.monotonic()
        self._begin_pass()
        update_bn(self.loader, self.swa.module, self.device)
        self._score(self.swa.module, self.epoch + 1, math.nan, time.monotonic() - started)

    def _score(self, network: torch.nn.Module, epoch: int, train_loss: float, train_seconds: float) -> float:
        """Return the held-out score of ``network``, written down as that of ``epoch``; the best one is kept."""
        score = self.processes.from_main(lambda: self._validate(network, epoch, train_loss, train_seconds))
        if score > self.best:
            self.best, self.best_epoch = score, epoch
        return score

    def _validate(
        self, network: torch.nn.Module, epoch: int, train_loss: float, train_seconds: float
    ) -> float:
        overlay = self.folder / "overlays" / f"epoch_{epoch:03d}.png"
        val_loss, score = self.validation.run(network, self.loss, self.device, self.precision, overlay)
        # the epoch's last step may have ruined the weights: they must be neither kept nor gone on from
        self._require_number(val_loss, "the held-out loss", epoch)
        # plain numbers: a checkpoint, which is read without unpickling, takes no NumPy scalars
        row = {
            "epoch": epoch,
            "learning_rate": self.descent.learning_rate,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "score": float(score.total),
            "dice": float(score.dice),
            "hausdorff": float(score.hausdorff),
            "train_seconds": train_seconds,
        }
        self.history.add(row)
        if row["score"] > self.best:
            kept = {"total": row["score"], "dice": row["dice"], "hausdorff": row["hausdorff"]}
            about = {**self._about(), "epoch": epoch, "score": kept, "versions": package_versions()}
            save_weights(self.folder, network.state_dict(), about)
        return row["score"]

    def _about(self) -> dict[str, Any]:
        return {
            "settings": settings_to_dict(self.settings),
            "fold": self.fold,
            "data_fingerprint": self.prepared.fingerprint,
            "work": str(self.prepared.scan_folder.parent.resolve()),
        }

    def _write_oof(self) -> None:
        self.network.load_state_dict(load_file(self.folder / "model.safetensors"))
        write_oof(self.validation, self.network, self.device, self.precision, self.folder / "oof")

    def _state(self) -> dict[str, Any]:
        return {
            **self._about(),
            "epoch": self.epoch,
            "history": self.history.rows,
            "network": self.network.state_dict(),
            "swa": None if self.swa is None else self.swa.state_dict(),
            **self.descent.state_dict(),
        }

    def _resume(self) -> bool:
        """Take up the newest readable checkpoint and return whether there was one."""
        state, kept = self.processes.from_main(self._what_was_left)
        if state is None:
            return False
        self.epoch = state["epoch"]
        # not the checkpoint's own: what is kept may be of the epoch that was broken off when it was nearly over
        if kept is not None:
            self.best, self.best_epoch = kept["score"]["total"], kept["epoch"]
        self.history = History(self.folder, state["history"])
        self.network.load_state_dict(state["network"])
        if self.swa is not None:
            self.swa.load_state_dict(state["swa"])
        self.descent.load_state_dict(state)
        return True

    def _what_was_left(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        remove_leftovers(self.folder)
        found = load_newest_checkpoint(self.folder)
        if found is None:
            return None, None
        path, state = found
        check_may_go_on(state, self.settings, self.prepared.fingerprint)
        self.log.note(f"going on from {path}")
        return state, read_kept_weights(self.folder)

    def _load_initial_weights(self) -> None:
        """Start from the weights of another run where the settings name one, and say which tensors it left alone."""
        path = self.settings.model.initial_weights
        if path is None:
            return
        left = load_initial_weights(self.network, path)
        if left:
            self.log.say(f"{path} leaves {len(left)} tensors as they are: {', '.join(left)}")
