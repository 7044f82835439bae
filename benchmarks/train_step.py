"""Does training wait for its data? Steps a second with the loader, against the same network fed one resident batch.

    python benchmarks/train_step.py [WORK] [--preset tiny] [--size 224] [--device cpu] [--steps 40] [--set K=V]

WORK is what `gitract prepare` made; without it a phantom is made in a temporary folder. Loader and resident batch take
turns, so that a busy machine hurts both. A turn with the loader is an epoch: its first batch, which nothing was
prepared for, counts too. On a CPU network and loader share the cores, so that the ratio falls short of 1 by what
preparing costs even where nothing ever waits.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from gitract_kit.competition.phantom import write_phantom
from gitract_kit.data.prepare import load_prepared, prepare
from gitract_kit.settings import Settings, load_preset, override_settings
from gitract_kit.training.processes import Processes
from gitract_kit.training.record import RunLog
from gitract_kit.training.trainer import _Trainer


def main() -> None:
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or make_phantom(Path(folder))
        trainer = create_trainer(work, Path(folder), options)
        resident = next(iter(trainer.loader))
        time_resident(trainer, resident, 3)
        print_head(trainer)
        turns = [take_turn(trainer, resident, turn) for turn in range(options.turns + 1)][1:]
    ratio = statistics.median(resident / fed for fed, _, resident in turns)
    waiting = statistics.median(waited / fed for fed, waited, _ in turns)
    print(f"ratio {ratio:.3f}; {waiting:.1%} of a step passes waiting for data")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--size", type=int, help="height and width of the input (default: the preset's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3, help="that count; one before them does not")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def make_phantom(folder: Path) -> Path:
    paths = write_phantom(folder / "phantom", seed=5, cases=3, test_cases=1, days=1, slices=40)
    prepare(paths.root, folder / "work", n_folds=3)
    return folder / "work"


def create_trainer(work: Path, folder: Path, options: argparse.Namespace) -> _Trainer:
    """The pieces that `gitract train` puts together, for epochs of ``options.steps`` steps."""
    settings = step_settings(options)
    processes = Processes(torch.device(options.device))
    log = RunLog(None, shown=False)
    return _Trainer(load_prepared(work), settings, 0, folder / "run", processes, log, progress=False)


def step_settings(options: argparse.Namespace) -> Settings:
    settings = load_preset(options.preset)
    size = f"geometry={{height: {options.size}, width: {options.size}}}"
    changes = ["model.encoder_weights=null", *([size] if options.size else []), *options.set]
    settings = override_settings(settings, changes)
    samples = options.steps * settings.training.batch_size
    return override_settings(settings, [f"training.samples_per_epoch={samples}"])


def time_fed(trainer: _Trainer, epoch: int) -> tuple[float, float]:
    """Seconds of an epoch with the loader, and how many of them passed waiting for a batch."""
    trainer.forward.train()
    trainer.draws.epoch = epoch
    waited, start = 0.0, time.perf_counter()
    batches = iter(trainer.loader)
    for number in range(len(trainer.loader)):
        asked = time.perf_counter()
        images, masks = next(batches)
        waited += time.perf_counter() - asked
        take_step(trainer, number, images, masks)
    _finish(trainer)
    return time.perf_counter() - start, waited


def time_resident(trainer: _Trainer, batch: tuple[torch.Tensor, torch.Tensor], steps: int) -> float:
    """Seconds of as many steps with one batch that stays where the network computes."""
    images, masks = (part.to(trainer.device) for part in batch)
    trainer.forward.train()
    start = time.perf_counter()
    for number in range(steps):
        take_step(trainer, number, images, masks)
    _finish(trainer)
    return time.perf_counter() - start


def take_step(trainer: _Trainer, number: int, images: torch.Tensor, masks: torch.Tensor) -> None:
    trainer.batch = number
    trainer._step(images, masks)


def _finish(trainer: _Trainer) -> None:
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)


def take_turn(
    trainer: _Trainer, batch: tuple[torch.Tensor, torch.Tensor], turn: int
) -> tuple[float, float, float]:
    """Seconds with the loader, those of them spent waiting, and seconds with the resident ``batch``."""
    steps = len(trainer.loader)
    fed, waited = time_fed(trainer, turn)
    resident = time_resident(trainer, batch, steps)
    rates = f"{steps / fed:18.2f}{steps / resident:20.2f}{resident / fed:8.3f}"
    print(f"{turn or 'none':>4}{rates}{waited / fed:18.1%}", flush=True)
    return fed, waited, resident


def print_head(trainer: _Trainer) -> None:
    chosen = trainer.settings.training
    print(
        f"{trainer.settings.preset}, {trainer.settings.geometry.height} px, batches of {chosen.batch_size}, "
        f"{chosen.workers} loader processes, {trainer.device}, {torch.get_num_threads()} threads, "
        f"{str(trainer.precision or torch.float32).removeprefix('torch.')}"
    )
    print(f"{'turn':>4}{'loader, steps/s':>18}{'resident, steps/s':>20}{'ratio':>8}{'waiting for data':>18}")


if __name__ == "__main__":
    main()
