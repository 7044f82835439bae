"""Processor time of one Hausdorff distance beside scipy's, MONAI's and surface-distance's.

    python benchmarks/metric.py [--labels TRAIN_CSV --inventory CSV] [--predictions CSV ...] [--volumes 6]

Organ volumes of the labels, spread over their sizes, are held against three altered copies of themselves: dilated by
2 voxels, shifted, and with one far speck added. scipy's ``directed_hausdorff`` is called as public graders call it:
over all voxels of both masks, both ways. It must give the same number to 1e-12, or the script ends there.

MONAI and surface-distance measure between surfaces, which is another quantity where a mask has holes or encloses
the other; how often they differ is counted. With ``--predictions``, real submissions are held against the labels as
well, over the slices that both have: masks that are far apart let scipy stop early.

scipy takes up to minutes a volume: the default of 6 volumes takes about ten minutes, all 33 of the eleven labelled
scans (``--volumes 0``) about an hour.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from labels import add_options, cpu_seconds, organ_volumes, print_header, print_row, read_rows
from scipy import ndimage
from scipy.spatial.distance import directed_hausdorff

from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.metric import hausdorff_distance
from gitract_kit.competition.paired_scans import pair_scans
from gitract_kit.competition.rle import rle_decode_batch

Pair = tuple[str, np.ndarray, np.ndarray]


def scipy_distance(mask_true: np.ndarray, mask_pred: np.ndarray) -> float:
    true, pred = (np.argwhere(mask) / mask.shape for mask in (mask_true, mask_pred))
    return max(directed_hausdorff(true, pred)[0], directed_hausdorff(pred, true)[0]) / math.sqrt(3)


def monai_distance(mask_true: np.ndarray, mask_pred: np.ndarray) -> float:
    from monai.metrics import compute_hausdorff_distance

    masks = [mask[None, None] for mask in (mask_pred, mask_true)]
    spacing = [1 / length for length in mask_true.shape]
    return float(compute_hausdorff_distance(*masks, include_background=True, spacing=spacing)) / math.sqrt(3)


def surface_distance_distance(mask_true: np.ndarray, mask_pred: np.ndarray) -> float:
    import surface_distance

    spacing = [1 / length for length in mask_true.shape]
    distances = surface_distance.compute_surface_distances(mask_true, mask_pred, spacing)
    return surface_distance.compute_robust_hausdorff(distances, 100) / math.sqrt(3)


PEERS = {"scipy": scipy_distance, "MONAI": monai_distance, "surface-distance": surface_distance_distance}


def altered(volume: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield "dilated by 2", ndimage.binary_dilation(volume, iterations=2)
    shifted = np.zeros_like(volume)
    shifted[1:, 4:, 5:] = volume[:-1, :-4, :-5]
    yield "shifted", shifted
    speck = volume.copy()
    centre = [positions.mean() for positions in np.nonzero(volume)]
    speck[tuple(0 if c > n / 2 else n - 1 for c, n in zip(centre, volume.shape, strict=True))] = True
    yield "far speck", speck


def altered_pairs(rows: pd.DataFrame, n_volumes: int) -> Iterator[Pair]:
    volumes = sorted(organ_volumes(rows), key=lambda named: np.count_nonzero(named[1]))
    chosen = (
        np.linspace(0, len(volumes) - 1, min(n_volumes or len(volumes), len(volumes))).round().astype(int)
    )
    for name, volume in (volumes[i] for i in chosen):
        for how, other in altered(volume):
            yield f"{name}, {how}", volume, other


def real_pairs(rows: pd.DataFrame, path: Path) -> Iterator[Pair]:
    prediction = pd.read_csv(path, keep_default_na=False)
    for scan in pair_scans(rows, prediction, rows, ORGANS, only_common=True).scans:
        for k, organ in enumerate(ORGANS):
            masks = np.zeros((2, *scan.extent), dtype=bool)
            for mask, rles in zip(masks, (scan.rles_true, scan.rles_pred), strict=True):
                mask[scan.z] = rle_decode_batch(rles[:, k], scan.extent[1:])
            if masks.any(axis=(1, 2, 3)).all():
                yield f"{scan.name} {organ}, {path.stem}", *masks


def timed(work: Callable[[], float]) -> tuple[float, float]:
    """Processor time, and what came out."""
    results: list[float] = []
    return cpu_seconds(lambda: results.append(work())), results[0]


def compare(pairs: Iterator[Pair], turns: int) -> None:
    print_header("pair", "voxels", "distance", "ours, ms", *(f"{name}, times" for name in PEERS))
    ratios, differ = [], []
    for name, *masks in pairs:
        tries = [timed(partial(hausdorff_distance, *masks)) for _ in range(turns)]
        ours, distance = statistics.median(seconds for seconds, _ in tries), tries[0][1]
        found = [timed(partial(peer, *masks)) for peer in PEERS.values()]
        if abs(found[0][1] - distance) > 1e-12:
            raise SystemExit(f"{name}: scipy's distance is {found[0][1]!r}, ours {distance!r}")
        ratios.append([seconds / ours for seconds, _ in found])
        differ.append([abs(value - distance) > 1e-6 for _, value in found])
        voxels = f"{np.count_nonzero(masks[0]):,}"
        print_row(
            name, voxels, f"{distance:.4f}", f"{1000 * ours:.1f}", *(f"{ratio:.1f}" for ratio in ratios[-1])
        )
    for what, value in (("median", np.median(ratios, axis=0)), ("least", np.min(ratios, axis=0))):
        print_row(f"**{what}**", "", "", "", *(f"**{ratio:.1f}**" for ratio in value))
    print_row(
        "another distance in", "", "", "", *(f"{count} of {len(differ)}" for count in np.sum(differ, axis=0))
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument(
        "--predictions", type=Path, nargs="*", default=[], help="submissions to hold against the labels"
    )
    parser.add_argument("--volumes", type=int, default=6, help="organ volumes to alter; 0 for all")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    # MONAI's own use of torch
    warnings.simplefilter("ignore")
    rows = read_rows(options)
    print("\norgan volumes and altered copies; peers in times of ours\n")
    compare(altered_pairs(rows, options.volumes), options.turns)
    for path in options.predictions:
        print(f"\nreal predictions of {path.name}; peers in times of ours\n")
        compare(real_pairs(rows, path), options.turns)


if __name__ == "__main__":
    main()
