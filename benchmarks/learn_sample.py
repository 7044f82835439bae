"""What weights trained on the made-up competition are worth on real scans: few real slices, with and without them.

    python benchmarks/learn_sample.py ../shared/data/sample -o build/learn_sample

SAMPLE is a competition root with two or more whole scans and any number of single slices. For each whole scan a
network is trained on the others and scored on it: (a) from random weights, (b) from weights trained on the phantom;
(c) is those weights as they are. (a) and (b) see as many real slices, by recipes that differ in the learning rate
alone (the preset's, and ``--tuning-rate``), and what the last step left is scored: nothing is chosen on the scan that
is held out. Two scans and one seed are few: what one of them says alone may be chance. A stage whose result lies in
the folder is not repeated: use another folder for other options.

About 40 minutes on two idle cores whose CPU computes in bfloat16, most of them on the phantom; elsewhere give
``--precision fp32``, and wait three times that.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from labels import print_header, print_row
from safetensors.torch import load_file

from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.metric import Score
from gitract_kit.competition.phantom import REAL_SIZES, VARIETIES, write_phantom
from gitract_kit.data.dataset import SliceDataset
from gitract_kit.data.folds import save_folds
from gitract_kit.data.prepare import load_prepared, prepare
from gitract_kit.models import create_loss, create_model
from gitract_kit.models.forward import select_precision
from gitract_kit.settings import Settings, load_preset, override_settings
from gitract_kit.training import train_fold
from gitract_kit.training.validation import Validation

WHOLE_SCAN_SLICES = 70

# one epoch, so that nothing is chosen on what is held out: its end is scored
RECIPE = (
    "geometry.height=128",
    "geometry.width=128",
    "training.epochs=1",
    "training.warmup_epochs=0.1",
)
PHANTOM_RECIPE = ("augmentation=light", "augmentation.hflip=0", "training.empty_share=0.25")
REAL_RECIPE = ("augmentation=strong", "augmentation.hflip=0", "training.empty_share=0.3")


def prepare_phantom(folder: Path, options: argparse.Namespace) -> Path:
    """The work folder: scans of half as many slices, twice as thick, so that there is time for more bodies."""
    work = folder / "phantom_work"
    if (work / "prepared.json").is_file():
        return work
    shutil.rmtree(folder / "phantom", ignore_errors=True)
    paths = write_phantom(
        folder / "phantom",
        seed=11,
        cases=options.cases,
        days=1,
        test_cases=1,
        slices=72,
        sizes=[size for size in REAL_SIZES if size.slices > 100],
        variety=options.variety,
    )
    prepare(paths.root, work, n_folds=8)
    return work


def prepare_sample(folder: Path, sample: Path) -> tuple[Path, list[str]]:
    """The work folder, and the whole scans in the order of their folds; single slices are a fold never held out."""
    work = folder / "sample_work"
    index = build_index(sample, "train")
    whole = index.groupby("scan", sort=False).filter(lambda rows: len(rows) >= WHOLE_SCAN_SLICES)
    fold_of = {case: fold for fold, case in enumerate(whole["case"].unique())}
    if not (work / "prepared.json").is_file():
        work.mkdir(parents=True, exist_ok=True)
        cases = index["case"].unique()
        folds = [fold_of.get(case, len(fold_of)) for case in cases]
        save_folds(pd.DataFrame({"case": cases, "fold": folds}), work / "folds.csv")
        prepare(sample, work)
    return work, list(fold_of)


def train(work: Path, run: Path, settings: Settings, fold: int, name: str) -> Path:
    """The weights, trained unless they are there."""
    weights = run / f"fold_{fold}" / "model.safetensors"
    if not (weights.parent / "done").is_file():
        shutil.rmtree(weights.parent, ignore_errors=True)
        start = time.perf_counter()
        train_fold(work, run, settings, fold, progress=False)
        (weights.parent / "done").touch()
        print(f"{name}: {(time.perf_counter() - start) / 60:.1f} min", flush=True)
    return weights


def score(work: Path, settings: Settings, weights: Path, fold: int) -> Score:
    prepared = load_prepared(work)
    held_out = prepared.index[prepared.index["fold"] == fold]
    network = create_model(settings.model, in_channels=settings.window.slices, classes=len(ORGANS))
    network.load_state_dict(load_file(weights))
    data = SliceDataset(held_out, prepared.scan_folder, settings, augment=False)
    device = torch.device("cpu")
    precision = select_precision(device, settings.training.precision)
    return Validation(data, held_out, settings).run(
        network.to(memory_format=torch.channels_last), create_loss(settings.training.loss), device, precision
    )[1]


def recipes(options: argparse.Namespace) -> tuple[Settings, Settings]:
    """Of the phantom and of the real slices."""
    common = override_settings(
        load_preset(options.preset), [*RECIPE, f"training.precision={options.precision}", *options.set]
    )
    # phantom slices are twice as thick: with half the stride, windows reach as far as in the real scans
    phantom = override_settings(
        common, [*PHANTOM_RECIPE, "window.stride=1", f"training.samples_per_epoch={options.phantom_samples}"]
    )
    real = override_settings(common, [*REAL_RECIPE, f"training.samples_per_epoch={options.real_samples}"])
    return phantom, real


def starting_from(settings: Settings, weights: Path, rate: float) -> Settings:
    return replace(
        settings,
        model=replace(settings.model, initial_weights=str(weights)),
        training=replace(settings.training, learning_rate=rate),
    )


def main() -> None:
    options = read_options()
    folder = options.out
    phantom, real = recipes(options)
    pretrained = train(prepare_phantom(folder, options), folder / "phantom_run", phantom, 0, "phantom")
    work, cases = prepare_sample(folder, options.sample)
    tuned = starting_from(real, pretrained, options.tuning_rate)
    found: dict[str, list[Score]] = {}
    for fold, case in enumerate(cases):
        random = train(work, folder / "from_random", real, fold, f"{case} held out, from random weights")
        further = train(work, folder / "from_phantom", tuned, fold, f"{case} held out, from the phantom's")
        found[case] = [score(work, real, weights, fold) for weights in (random, further, pretrained)]
    print_scores(found, options)


def print_scores(found: dict[str, list[Score]], options: argparse.Namespace) -> None:
    starts = ("(a) random", "(b) phantom, then real", "(c) phantom alone")
    print(
        f"\n{options.real_samples} real samples in (a) and (b), {options.phantom_samples} of "
        f"{options.cases} phantom cases ({options.variety}) in (b) and (c)\n"
    )
    print_header("held out", "weights", "slice Dice", *ORGANS, "Hausdorff", "score", "Dice / (a)")
    for case, scores in found.items():
        for start, score in zip(starts, scores, strict=True):
            by_organ = (f"{score.by_organ.loc[organ, 'dice']:.3f}" for organ in ORGANS)
            values = (f"{score.hausdorff:.3f}", f"{score.total:.4f}", f"{score.dice / scores[0].dice:.1f}")
            print_row(case, start, f"{score.dice:.3f}", *by_organ, *values)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sample", type=Path, metavar="SAMPLE", help="a competition root: train.csv and train/"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="what is made, kept")
    parser.add_argument("--variety", choices=VARIETIES, default="mixed", help="of the phantom")
    parser.add_argument("--cases", type=int, default=96, help="of the phantom, an eighth held out")
    parser.add_argument("--phantom-samples", type=int, default=50_000)
    parser.add_argument("--real-samples", type=int, default=6_000)
    parser.add_argument("--tuning-rate", type=float, default=5e-4, help="highest learning rate in (b)")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every training")
    return parser.parse_args()


if __name__ == "__main__":
    main()
