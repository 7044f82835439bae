"""Trains one fold again and again: killed by SIGKILL at another moment each time, and then resumed.

    python killed_runs.py WORK RUNS SETTINGS_JSON

Leaves ``RUNS/MOMENT/fold_0``, and tells on stdout which moments a run was truly killed at, and what then lay in its
folder. One process imports everything and forks a child a run, so that a run costs no imports.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from gitract_kit import files
from gitract_kit.settings import Settings, settings_from_dict
from gitract_kit.training import checkpoint, train_fold, trainer, validation


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_call(owner: object, name: str, number: int) -> None:
    """Kill when ``owner.name`` is called for the ``number``-th time."""
    function, calls = getattr(owner, name), []

    def counted(*arguments, **options):
        calls.append(None)
        if len(calls) == number:
            kill()
        return function(*arguments, **options)

    setattr(owner, name, counted)


def before_publishing(name: str, number: int = 1) -> None:
    """Kill when the file ``name`` is whole beside its place for the ``number``-th time, and not yet there."""
    publish, calls = files._publish, []

    def killed(temporary, path):
        calls.append(path.name)
        if calls.count(name) == number:
            kill()
        publish(temporary, path)

    files._publish = killed


def half_written(number: int) -> None:
    """Kill when the first half of the ``number``-th checkpoint is written."""
    save, calls = torch.save, []

    def killed(state, file):
        save(state, file)
        calls.append(None)
        if len(calls) == number:
            file.truncate(file.tell() // 2)
            file.flush()
            kill()

    checkpoint.torch.save = killed


# four steps an epoch, two epochs
MOMENTS: dict[str, Callable[[], None]] = {
    "in the first epoch": partial(before_call, trainer._Trainer, "_step", 2),
    "in the second epoch": partial(before_call, trainer._Trainer, "_step", 7),
    "half a checkpoint written": partial(half_written, 2),
    "a checkpoint not yet in its place": partial(before_publishing, "checkpoint_0002.pt"),
    "between the weights and their json": partial(before_publishing, "model.json", 2),
    "between the weights and the checkpoint": partial(before_call, trainer, "save_checkpoint", 2),
    "after the last checkpoint": partial(before_call, trainer._Trainer, "_write_oof", 1),
    "in the held-out probabilities": partial(before_call, validation.np, "savez_compressed", 1),
}
WITH_A_LOADER = "in the second epoch"


def in_a_child(run: Callable[[], object]) -> int:
    """Return the wait status of a forked child that runs ``run``."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def train(work: Path, run: Path, settings: Settings, *, resume: bool) -> None:
    train_fold(work, run, settings, 0, resume=resume, device="cpu", progress=False)


def train_killed(moment: Callable[[], None], *arguments) -> None:
    moment()
    train(*arguments, resume=False)


def main(work: Path, runs: Path, settings: Settings) -> None:
    told = {}
    for name, moment in MOMENTS.items():
        run = runs / name
        workers = 1 if name == WITH_A_LOADER else 0
        killed = replace(settings, training=replace(settings.training, workers=workers))
        status = in_a_child(partial(train_killed, moment, work, run, killed))
        left = sorted(path.name for path in (run / "fold_0").rglob("*") if path.is_file())
        resumed = in_a_child(partial(train, work, run, settings, resume=True))
        told[name] = {"killed": status == signal.SIGKILL, "left": left, "resumed": resumed == 0}
    print(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), settings_from_dict(json.loads(sys.argv[3])))
