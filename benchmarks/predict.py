"""Seconds from a test folder to its submission: by stage, against the bare network, and against the public loop.

    python benchmarks/predict.py ROOT --bundle weights/NAME [--bundle ...] [--device cuda] [--precision bf16]

Three ways take turns on the same scans, weights, augmentation, precision and machine, none with a clean-up:

- end to end: `Predictor.predict`, from PNG files to submission.csv;
- networks alone: the same batches, already in memory, through the networks; no prediction can take less;
- public loop: what public notebooks share. A table merged with the sample, a DataLoader over slices that reads
  every neighbour anew, a loop over models inside the loop over batches, all views of the augmentation in
  memory, networks in torch's default memory layout, masks (not probabilities) brought to the slice's size with
  nearest neighbours, one run-length string at a time. It is given the kit's intensities and geometry, and does not pay
  for them, so that its masks can be held against ours.

The masks are compared as the public loop writes them, and, not timed, with two other ways to the slice's size:
cv2.INTER_NEAREST takes the pixel above and left of the nearest one where an image is enlarged, and any nearest
neighbour draws the network's coarse pixels. The third way has neither fault.
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from gitract_kit.competition.index import build_index
from gitract_kit.competition.rle import rle_decode, rle_encode_batch
from gitract_kit.competition.submission import read_submission
from gitract_kit.data.geometry import create_geometry
from gitract_kit.data.inputs import ScanInputs
from gitract_kit.data.postprocess import CleanUp, by_organ
from gitract_kit.data.scans import Scan, decode_scan, decode_slice, intensity_range, iterate_scans
from gitract_kit.data.window import window_positions
from gitract_kit.inference.ensemble import Ensemble
from gitract_kit.inference.member import NetworkMember
from gitract_kit.inference.predictor import Predictor
from gitract_kit.models.forward import autocast, select_precision
from gitract_kit.settings import PredictionSettings
from gitract_kit.shipping.bundle import load_bundle

NEAREST = "as it is: masks resized with cv2.INTER_NEAREST"
EXACT = "masks resized with nearest neighbours that are not shifted"
PROBABILITIES = "probabilities resized, and the threshold after it"
RESTORE = (NEAREST, EXACT, PROBABILITIES)


def main() -> None:
    options = _parse()
    bundles = [load_bundle(folder, device=options.device) for folder in options.bundle]
    members = [member for bundle in bundles for member in bundle.members]
    for member in members:
        member.precision = options.precision
    prediction = without_clean_up(bundles[0].prediction)
    index = build_index(options.root, "test")
    print(
        f"{index['scan'].nunique()} scans, {len(index)} slices, {len(members)} members, TTA {members[0].tta}, "
        f"{options.device}, {options.precision}, {torch.get_num_threads()} threads"
    )
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "submission.csv", Path(folder) / "public.csv"
        predictor = Predictor(members, prediction)
        ways = {
            "end to end": lambda: time_of(lambda: predictor.predict(options.root, ours, progress=False)),
            "networks alone": lambda: time_networks(members, index),
        }
        if not options.no_peer:
            loop = PublicLoop(members, prediction, index, options.workers)
            ways["public loop"] = lambda: time_of(lambda: loop.predict(options.root, theirs))
        print_turns(take_turns(ways, options.turns))
        if not options.no_peer:
            print_agreement(loop, options.root, ours, theirs, index)
    print_stages(time_stages(members, bundles[0].prediction, index))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def without_clean_up(prediction: PredictionSettings) -> PredictionSettings:
    """Thresholds alone: the public loop knows no more."""
    return PredictionSettings(
        tta=prediction.tta,
        batch_size=prediction.batch_size,
        threshold=prediction.threshold,
        min_component_px=0,
    )


def print_agreement(loop: PublicLoop, root: Path, ours: Path, theirs: Path, index: pd.DataFrame) -> None:
    print("mean Dice of ours and the public loop's masks, where either has one")
    for way in RESTORE:
        loop.way = way
        loop.predict(root, theirs)
        print(f"  {way:60}{mean_dice(ours, theirs, index):8.4f}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="a competition folder with a test/ that holds scans")
    parser.add_argument("--bundle", type=Path, action="append", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "fp16", "bf16"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="processes of the public loop's DataLoader")
    parser.add_argument("--no-peer", action="store_true")
    return parser.parse_args()


def time_of(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def take_turns(ways: dict[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """Seconds of each way, turn by turn, after one turn that does not count."""
    seconds = defaultdict(list)
    for turn in range(turns + 1):
        for name, run in ways.items():
            taken = run()
            if turn:
                seconds[name].append(taken)
    return seconds


def print_turns(seconds: dict[str, list[float]]) -> None:
    """Each way's seconds, and its ratio to the networks alone, turn by turn so that a busy machine hurts both."""
    base = seconds["networks alone"]
    print(f"{'':16}{'seconds':>10}{'/ networks alone':>20}")
    for name, taken in seconds.items():
        ratio = statistics.median(one / other for one, other in zip(taken, base, strict=True))
        print(f"{name:16}{statistics.median(taken):10.2f}{ratio:20.3f}")
    if "public loop" in seconds:
        pairs = zip(seconds["public loop"], seconds["end to end"], strict=True)
        print(
            f"ours is {statistics.median(one / other for one, other in pairs):.2f} times as fast as the public loop"
        )


def time_networks(members: Sequence[NetworkMember], index: pd.DataFrame) -> float:
    """Seconds in the networks alone; what prepares their batches is not counted."""
    total = 0.0
    for _, rows in iterate_scans(index):
        scan = decode_scan(rows)
        for member in members:
            batches = _batches(member, scan)
            total += time_of(lambda member=member, batches=batches: _forward(member, batches))
    return total


def _batches(member: NetworkMember, scan: Scan) -> list[torch.Tensor]:
    inputs = ScanInputs(scan, member.settings)
    windows = torch.from_numpy(inputs.planes())[torch.from_numpy(inputs.positions)].to(member.device)
    return [batch.contiguous(memory_format=torch.channels_last) for batch in windows.split(member.batch_size)]


@torch.inference_mode()
def _forward(member: NetworkMember, batches: Sequence[torch.Tensor]) -> None:
    with autocast(member.device, select_precision(member.device, member.precision)):
        for batch in batches:
            for _ in range(member.passes):
                member.network(batch)
    if member.device.type == "cuda":
        torch.cuda.synchronize(member.device)


def time_stages(
    members: Sequence[NetworkMember], prediction: PredictionSettings, index: pd.DataFrame
) -> dict[str, float]:
    """Seconds of each stage on its own, one after the other, summed over the scans."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(stage: str, run: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = run()
        seconds[stage] += time.perf_counter() - start
        return result

    clean_up = CleanUp(prediction, members[0].organs)
    ensemble = Ensemble(members)
    for _, rows in iterate_scans(index):
        scan = timed("decode", lambda rows=rows: decode_scan(rows))
        inputs = timed("intensity and geometry", lambda scan=scan: ScanInputs(scan, members[0].settings))
        timed("resample to the networks' size", inputs.planes)
        probabilities = timed(
            "all of the networks' part (resample, windows, forward, inverse)",
            lambda scan=scan: ensemble.predict(scan),
        )
        masks = timed(
            "threshold and the bundle's clean-up", lambda p=probabilities, scan=scan: clean_up.apply(p, scan)
        )
        timed("encode", lambda masks=masks: [rle_encode_batch(organ) for organ in masks.swapaxes(0, 1)])
    return seconds


def print_stages(seconds: dict[str, float]) -> None:
    print("each stage on its own, not overlapping:")
    for stage, taken in seconds.items():
        print(f"  {stage:64}{taken:8.2f} s")


class PublicLoop:
    """The loop that public notebooks share, with the kit's intensities and geometry."""

    def __init__(
        self,
        members: Sequence[NetworkMember],
        prediction: PredictionSettings,
        index: pd.DataFrame,
        workers: int,
    ) -> None:
        # channels_last is the kit's
        self._networks = [
            copy.deepcopy(member.network).to(memory_format=torch.contiguous_format) for member in members
        ]
        self._members = members
        self._index = index
        thresholds = by_organ(prediction.threshold, members[0].organs, "threshold")
        self._thresholds = torch.tensor(thresholds, device=members[0].device).reshape(1, -1, 1, 1)
        self._workers = workers
        self._files = SliceFiles(index, members[0])
        self.way = RESTORE[0]
        """How its answers come to the slice's size."""

    @torch.inference_mode()
    def predict(self, root: Path, output: Path) -> None:
        sample = pd.read_csv(root / "sample_submission.csv")
        table = sample.drop_duplicates("id")[["id"]].merge(self._index, on="id", how="left")
        self._files.table = table
        loader = DataLoader(self._files, batch_size=self._members[0].batch_size, num_workers=self._workers)
        rows = []
        for images, positions in loader:
            answers = self._answers(images)
            for answer, position in zip(answers, positions.tolist(), strict=True):
                slice_row = table.iloc[position]
                for organ, plane in enumerate(answer):
                    mask = self._restore(plane, slice_row, float(self._thresholds[0, organ]))
                    rows.append((slice_row["id"], self._members[0].organs[organ], encode_one(mask)))
        predicted = pd.DataFrame(rows, columns=["id", "class", "predicted"])
        sample[["id", "class"]].merge(predicted, on=["id", "class"], how="left").to_csv(output, index=False)

    def _answers(self, images: torch.Tensor) -> np.ndarray:
        """Masks of the networks' size, or their probabilities where those are to be resized."""
        images = images.to(self._members[0].device)
        mean = 0
        for member, network in zip(self._members, self._networks, strict=True):
            with autocast(member.device, select_precision(member.device, member.precision)):
                views = [network(images).sigmoid()]
                if member.passes > 1:
                    views.append(network(images.flip(-1)).sigmoid().flip(-1))
            mean = mean + torch.stack(views).float().mean(0) / len(self._members)
        return (mean if self.way == PROBABILITIES else mean >= self._thresholds).cpu().numpy()

    def _restore(self, plane: np.ndarray, row: pd.Series, threshold: float) -> np.ndarray:
        geometry = self._files.geometry(row)
        if self.way == PROBABILITIES:
            return geometry.inverse(plane) >= threshold
        (top, left), (height, width) = geometry.offset, geometry.scaled
        inner = np.ascontiguousarray(plane[top : top + height, left : left + width], dtype=np.uint8)
        exact = self.way == EXACT
        nearest = cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_NEAREST
        return cv2.resize(inner, geometry.source[::-1], interpolation=nearest)


class SliceFiles(Dataset):
    """One slice a sample, its neighbours read from their files each time."""

    def __init__(self, index: pd.DataFrame, member: NetworkMember) -> None:
        self.table = index
        self._settings = member.settings
        self._windows: dict[str, list[str]] = {}
        self._ranges: dict[str, tuple[float, float]] = {}
        for name, rows in iterate_scans(index):
            paths = rows["path"].tolist()
            for slice_id, window in zip(
                rows["id"], window_positions(rows["slice"], member.settings.window), strict=True
            ):
                self._windows[slice_id] = [paths[position] for position in window]
            self._ranges[name] = intensity_range(decode_scan(rows).volume, member.settings.intensity)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int]:
        row = self.table.iloc[position]
        low, high = self._ranges[row["scan"]]
        geometry, planes = self.geometry(row), []
        for path in self._windows[row["id"]]:
            image = decode_slice(path, geometry.source).astype(np.float32)
            planes.append(geometry.forward(np.clip((image - low) / (high - low), 0, 1)))
        return torch.from_numpy(np.stack(planes)), position

    def geometry(self, row: pd.Series):
        shape = int(row["height"]), int(row["width"])
        spacing_mm = float(row["spacing_y_mm"]), float(row["spacing_x_mm"])
        return create_geometry(shape, spacing_mm, self._settings.geometry)


def encode_one(mask: np.ndarray) -> str:
    """The run-length encoding of public notebooks: differences of the padded pixels, each number to text."""
    pixels = np.concatenate([[0], mask.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(number) for number in runs)


def mean_dice(ours: Path, theirs: Path, index: pd.DataFrame) -> float:
    """Mean Dice over the rows where either submission has a mask."""
    shapes = dict(zip(index["id"], zip(index["height"], index["width"], strict=True), strict=True))
    pairs = read_submission(ours).merge(read_submission(theirs), on=["id", "class"], suffixes=("", "_theirs"))
    dice = []
    for row in pairs.itertuples():
        first, second = (rle_decode(rle, shapes[row.id]) for rle in (row.predicted, row.predicted_theirs))
        size = first.sum() + second.sum()
        if size:
            dice.append(2 * (first & second).sum() / size)
    return float(np.mean(dice))


if __name__ == "__main__":
    main()
