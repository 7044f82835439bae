"""What the training notebook calls: one fold on every GPU of the session, going on from what an earlier run left.

Training runs in processes of its own, one a GPU: a notebook is a single process, and ends what it started when the
session's time is up, while there is still a checkpoint to go on from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from gitract_kit.errors import DatasetError, TrainingError

__all__ = ["find_fold", "train_in_session"]

_GRACE_S = 120.0  # for torchrun, which ends its workers itself, to do so
# a line a minute: Kaggle keeps every one, and a bar redrawn ten times a second fills the log of twelve hours
_ENVIRONMENT = {"TQDM_MININTERVAL": "60"}


def train_in_session(
    root: str | Path,
    work: str | Path,
    run: str | Path,
    preset: str,
    fold: int,
    changes: Iterable[str] = (),
    *,
    earlier: Sequence[str | Path] = (),
    hours: float | None = None,
    gpus: int | None = None,
) -> str:
    """Prepare the competition folder ``root`` in ``work``, train ``fold`` of it into ``run``, and return how it ended.

    ``preset`` is a shipped recipe and ``changes`` are assignments such as ``training.epochs=3``. The folds are those
    of the default seed, so that every kernel holds out the same cases. The first of ``earlier``, mounted output of an
    earlier run, is copied into ``run`` and gone on from; what ``run`` holds already is gone on from as it is. ``hours``
    count from the call: what is not done by then ends at its newest checkpoint. ``gpus`` are those that are there,
    unless told. Training that fails, or that has no checkpoint when its time is up, is a `TrainingError`.
    """
    gpus = torch.cuda.device_count() if gpus is None else gpus
    if not gpus and os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):
        raise TrainingError(
            "this session has no GPU, and training without one would take days: switch the accelerator on (enable_gpu "
            "and machine_shape in kernel-metadata.json), and see that the account is verified and has quota left"
        )
    until = time.monotonic() + (float("inf") if hours is None else hours * 3600)
    folder = Path(run) / f"fold_{fold}"
    if earlier and not _newest_checkpoint(folder):
        _copy_fold(find_fold(earlier[0], fold), folder)
    if not _run_kit(["prepare", str(root), "-o", str(work)], until):
        raise TrainingError(f"{hours:g} h were over before the scans were decoded; allow more")
    settings = [part for change in changes for part in ("--set", change)]
    train = [
        "train",
        str(work),
        "-o",
        str(run),
        "--preset",
        preset,
        "--fold",
        str(fold),
        "--resume",
        *settings,
    ]
    if _run_kit(train, until, processes=gpus):
        return f"fold {fold} is trained: {folder}"
    return _describe_stopped(folder, fold, hours)


def find_fold(output: str | Path, fold: int) -> Path:
    """Return the folder of ``fold`` in a training kernel's output, however deep that was mounted or given.

    ``output`` is what the kernel left in its working folder, or the run folder in it. A `DatasetError` where neither
    holds the fold.
    """
    output = Path(output)
    places = [output / f"fold_{fold}", output / "run" / f"fold_{fold}"]
    for place in places:
        if place.is_dir():
            return place
    there = ", ".join(sorted(path.name for path in output.iterdir())[:8]) if output.is_dir() else "nothing"
    raise DatasetError(
        f"{output} holds no fold {fold}, neither {places[0].name} nor run/{places[0].name} (there is {there}): mount "
        "the output of this fold's kernel, or train from the start without it"
    )


def _copy_fold(source: Path, folder: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = folder / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            # contents alone: what is mounted is read-only, and these files will be written again
            shutil.copyfile(path, place)
    print(f"going on from {source}, {_newest_checkpoint(folder) or 'which has no checkpoint'}", flush=True)


def _run_kit(arguments: Sequence[str], until: float, *, processes: int = 1) -> bool:
    """Run a verb of the kit; return whether it ended by itself, before the clock says ``until``."""
    launcher = ["torch.distributed.run", f"--nproc_per_node={processes}", "-m"] if processes > 1 else []
    command = [sys.executable, "-m", *launcher, "gitract_kit", *arguments]
    print(" ".join(command), flush=True)
    process = subprocess.Popen(command, env={**_ENVIRONMENT, **os.environ})
    try:
        code = process.wait(None if until == float("inf") else max(until - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return False
    finally:
        # a cell that is interrupted must not leave GPUs busy
        _end(process)
    if code:
        raise TrainingError(
            f"`gitract {arguments[0]}` ended with exit code {code}: what it said is above, in the notebook's log"
        )
    return True


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _newest_checkpoint(folder: Path) -> str | None:
    names = sorted(path.name for path in folder.glob("checkpoint_*.pt"))
    return names[-1] if names else None


def _describe_stopped(folder: Path, fold: int, hours: float | None) -> str:
    newest = _newest_checkpoint(folder)
    if newest is None:
        raise TrainingError(
            f"fold {fold}: {hours:g} h were over before the first epoch was, so there is nothing to go on from: allow "
            "more, or make the epochs shorter"
        )
    return (
        f"fold {fold} is NOT trained to its end: {hours:g} h are over, {newest} is the newest in {folder}. Push this "
        "kernel again with --resume, which mounts this output, to go on from it"
    )
