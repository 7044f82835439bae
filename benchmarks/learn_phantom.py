"""What our default recipe learns from few cases, beside that of the public notebooks, one change at a time.

    python benchmarks/learn_phantom.py -o build/learn_phantom

Twenty cases of the made-up competition train the same network from random weights with as many slices seen; eight
other cases are scored by `competition_score`, at a threshold of 0.5 and without clean-up. The first row is the public
recipe, written here from what the notebooks say of themselves: 3 slices with stride 2, each resized to a square (there
of 224 px) whatever its shape and divided by its own maximum, Adam 2e-3 with a cosine, 0.5 BCE + 0.5 Tversky, flips,
shift-scale-rotate, grid or elastic distortion and dropout; from row to row one of its parts is replaced by ours, that
of the preset `baseline`, until all are. What belongs to neither is equal: network, side of the input, batches, slices
seen, seed, and no choosing: the end of the one epoch is scored. With ``--seeds`` the table holds means. What lies in
the folder is not trained again.

By estimate 15 minutes on two idle cores whose CPU computes in bfloat16 (else give ``--precision fp32``).
"""

from __future__ import annotations

import argparse
import csv
import shutil
import time
from functools import partial
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import pandas as pd
from labels import print_header, print_row

from gitract_kit.competition.anatomy import ScanSize
from gitract_kit.competition.phantom import write_phantom
from gitract_kit.data.dataset import SliceDataset
from gitract_kit.data.folds import save_folds
from gitract_kit.data.geometry import Geometry
from gitract_kit.data.inputs import ScanInputs
from gitract_kit.data.prepare import prepare
from gitract_kit.settings import Settings, load_preset, override_settings
from gitract_kit.training import train_fold, trainer

TRAINING_CASES, SCORED_CASES = 20, 8
# the middle of a scan, where the organs are, in the real thickness of 3 mm
SIZES = (
    ScanSize(slices=80, top_mm=95.0, depth_mm=240.0),
    ScanSize(width=360, height=310, slices=80, top_mm=95.0, depth_mm=240.0),
    ScanSize(width=276, height=276, spacing_mm=1.63, slices=80, top_mm=95.0, depth_mm=240.0),
)
NETWORK = (
    "model.encoder=tu-resnet10t",
    "model.encoder_weights=null",
    "model.encoder_depth=4",
    "model.decoder_channels=[128, 64, 32, 16]",
)
PARTS = ("window", "geometry", "intensity", "optimiser and loss", "augmentation")


class PublicInputs(ScanInputs):
    """A scan's slices as the public notebooks give them to a network, in those parts that are not ours."""

    def __init__(self, scan, settings, intensity, ours: frozenset[str]) -> None:
        super().__init__(scan, settings, intensity)
        self._ours = ours
        if "geometry" not in ours:
            target = settings.geometry.height, settings.geometry.width
            self.geometry = Geometry(source=scan.shape, scaled=target, target=target)

    def plane(self, position: int) -> np.ndarray:
        if "intensity" in self._ours:
            return super().plane(position)
        image = self._volume[position].astype(np.float32)
        return self.geometry.forward(image / max(float(image.max()), 1.0))


class RecipeDataset(SliceDataset):
    """The kit's dataset with the public recipe in those parts that are not ours."""

    def __init__(
        self, ours: frozenset[str], index, scan_folder, settings: Settings, *, augment: bool
    ) -> None:
        super().__init__(index, scan_folder, settings, augment=augment)
        self._ours = ours
        if augment and "augmentation" not in ours:
            self._augmentation = create_public_augmentation(settings.geometry.height)

    def inputs(self, name: str) -> ScanInputs:
        if name not in self._inputs:
            scan = self.scan(name)
            self._inputs[name] = PublicInputs(scan, self._settings, self._intensity[name], self._ours)
        return self._inputs[name]


def create_public_augmentation(side: int) -> A.Compose:
    zero = {"border_mode": cv2.BORDER_CONSTANT, "fill": 0.0, "fill_mask": 0.0}
    hole = (side // 20, side // 20)
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(
                translate_percent=(-0.0625, 0.0625), scale=(0.95, 1.05), rotate=(-10, 10), p=0.5, **zero
            ),
            A.OneOf(
                [A.GridDistortion(num_steps=5, distort_limit=0.05), A.ElasticTransform(alpha=1, sigma=50)],
                p=0.25,
            ),
            A.CoarseDropout(
                num_holes_range=(5, 8),
                hole_height_range=hole,
                hole_width_range=hole,
                fill=0.0,
                fill_mask=0.0,
                p=0.5,
            ),
        ]
    )


def recipe(ours: frozenset[str], options: argparse.Namespace, seed: int) -> Settings:
    """Our settings with those of the public recipe in the parts that are not ours."""
    side = options.side
    settings = override_settings(
        load_preset("baseline"),
        [
            *NETWORK,
            f"geometry={{height: {side}, width: {side}, spacing_mm: null}}",
            "training.epochs=1",
            "training.batch_size=16",
            "training.warmup_epochs=0.1",
            "training.ema_decay=0.99",
            f"training.samples_per_epoch={options.samples}",
            f"training.precision={options.precision}",
            f"training.seed={seed}",
            "training.workers=2",
        ],
    )
    if "window" not in ours:
        settings = override_settings(settings, ["window={slices: 3, stride: 2}"])
    if "optimiser and loss" not in ours:
        settings = override_settings(
            settings,
            [
                "training.optimizer=adam",
                "training.learning_rate=2.0e-3",
                "training.weight_decay=1.0e-6",
                "training.warmup_epochs=0",
                "training.loss={bce: 0.5, tversky: 0.5}",
                "training.gradient_clip=0",
                "training.ema_decay=0",
                "training.empty_share=null",
            ],
        )
    return settings


def prepare_cases(folder: Path) -> Path:
    work = folder / "work"
    if (work / "prepared.json").is_file():
        return work
    shutil.rmtree(folder / "phantom", ignore_errors=True)
    cases = TRAINING_CASES + SCORED_CASES
    # training cases come in all sizes but the last
    paths = write_phantom(
        folder / "phantom", seed=5, cases=cases, days=1, test_cases=1, sizes=[*SIZES, SIZES[0]]
    )
    names = [f"case{number}" for number in range(1, cases + 1)]
    held_out = [0 if number >= TRAINING_CASES else 1 for number in range(cases)]
    work.mkdir(parents=True, exist_ok=True)
    save_folds(pd.DataFrame({"case": names, "fold": held_out}), work / "folds.csv")
    prepare(paths.root, work)
    return work


def train(work: Path, run: Path, settings: Settings, ours: frozenset[str]) -> dict[str, float]:
    """Score, Dice, Hausdorff distance and seconds on the cases never seen."""
    if not (run / "done").is_file():
        shutil.rmtree(run, ignore_errors=True)
        # the one place where the trainer makes its datasets: training and scoring both see the recipe's
        trainer.SliceDataset = partial(RecipeDataset, ours)
        start = time.perf_counter()
        train_fold(work, run, settings, 0, progress=False)
        (run / "done").write_text(f"{time.perf_counter() - start:.0f}")
    with (run / "fold_0" / "metrics.csv").open() as rows:
        return {name: float(value) for name, value in next(csv.DictReader(rows)).items()}


def main() -> None:
    options = read_options()
    work = prepare_cases(options.out)
    print(
        f"\n{options.samples} slices seen of {TRAINING_CASES} cases, {options.side} px, {options.seeds} seed(s)"
    )
    print(f"scored on {SCORED_CASES} cases never seen\n")
    print_header("recipe", "score", "slice Dice", "Hausdorff", "score gained")
    before = None
    for count in range(len(PARTS) + 1):
        ours = frozenset(PARTS[:count])
        name = "public notebooks" if not count else f"+ our {PARTS[count - 1]}"
        found = [
            train(work, options.out / f"step{count}_seed{seed}", recipe(ours, options, seed), ours)
            for seed in range(options.seeds)
        ]
        score, dice, distance = (
            np.mean([run[key] for run in found]) for key in ("score", "dice", "hausdorff")
        )
        gained = "" if before is None else f"{score - before:+.4f}"
        print_row(name, f"{score:.4f}", f"{dice:.4f}", f"{distance:.4f}", gained)
        before = score


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="what is made, kept")
    parser.add_argument("--samples", type=int, default=3_000, help="slices seen by each")
    parser.add_argument("--side", type=int, default=96, help="of the network's input in pixels")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
