"""Processor time a mask to encode and decode, beside what public notebooks share and pycocotools.

    python benchmarks/rle.py [--labels TRAIN_CSV --inventory CSV] [--turns 9]

All ways take turns on the same masks. The notebooks' functions are written here anew: concatenate, compare,
where, stride-2 subtraction, str of each number; split, then a Python loop over runs. pycocotools is in C and
writes another format (column-major, all runs, packed into letters): it is given the masks turned, and its strings
are not the competition's.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import pandas as pd
from labels import add_options, cpu_seconds, print_header, print_row, read_rows

from gitract_kit.competition.rle import rle_decode, rle_decode_batch, rle_encode, rle_encode_batch


def encode_as_notebooks_do(mask: np.ndarray) -> str:
    pixels = np.concatenate([[0], mask.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(number) for number in runs)


def decode_as_notebooks_do(rle: str, shape: tuple[int, int]) -> np.ndarray:
    words = rle.split()
    starts, lengths = (np.asarray(numbers, dtype=int) for numbers in (words[::2], words[1::2]))
    starts -= 1
    ends = starts + lengths
    mask = np.zeros(shape[0] * shape[1], dtype=np.uint8)
    for start, end in zip(starts, ends, strict=True):
        mask[start:end] = 1
    return mask.reshape(shape)


class Coco:
    """pycocotools on row-major masks, which it takes for column-major ones of the turned shape."""

    def __init__(self, masks: np.ndarray) -> None:
        from pycocotools import mask as coco

        self._coco = coco
        self._turned = np.asfortranarray(masks.astype(np.uint8).transpose(2, 1, 0))
        self._encoded = coco.encode(self._turned)

    def encode(self) -> object:
        return self._coco.encode(self._turned)

    def decode(self) -> object:
        return self._coco.decode(self._encoded)


def ways(rles: list[str], shape: tuple[int, int]) -> dict[str, tuple[Callable, Callable]]:
    masks = rle_decode_batch(rles, shape)
    coco = Coco(masks)
    # side by side means the same answer
    if [encode_as_notebooks_do(mask) for mask in masks] != rle_encode_batch(masks):
        raise SystemExit("the two encoders differ")
    if any((decode_as_notebooks_do(rle, shape) != mask).any() for rle, mask in zip(rles, masks, strict=True)):
        raise SystemExit("the two decoders differ")
    return {
        "rle_encode_batch, rle_decode_batch": (
            lambda: rle_encode_batch(masks),
            lambda: rle_decode_batch(rles, shape),
        ),
        "rle_encode, rle_decode": (
            lambda: [rle_encode(mask) for mask in masks],
            lambda: [rle_decode(rle, shape) for rle in rles],
        ),
        "notebooks": (
            lambda: [encode_as_notebooks_do(mask) for mask in masks],
            lambda: [decode_as_notebooks_do(rle, shape) for rle in rles],
        ),
        "pycocotools (another format)": (coco.encode, coco.decode),
    }


def compare_batches(rows: pd.DataFrame, turns: int) -> None:
    """All rows that are not empty, one batch a scan and organ; a turn is one pass of each way over all batches."""
    groups = [group for _, group in rows[rows["segmentation"] != ""].groupby(["scan", "class"])]
    shapes = [(group["height"].iloc[0], group["width"].iloc[0]) for group in groups]
    batches = [
        ways(group["segmentation"].tolist(), shape) for group, shape in zip(groups, shapes, strict=True)
    ]
    n_masks = sum(map(len, groups))
    n_runs = sum(len(rle.split()) for group in groups for rle in group["segmentation"]) // 2
    times = np.array([[all_batches(batches, name) for name in batches[0]] for _ in range(turns)]) / n_masks
    print(
        f"\n{n_masks} masks that are not empty, {n_runs / n_masks:.0f} runs each, in batches by scan and organ\n"
    )
    print_header("microseconds a mask (median)", "encode", "ratio", "decode", "ratio")
    ratios = np.median(times / times[:, :1], axis=0)
    for name, seconds, ratio in zip(batches[0], np.median(times, axis=0), ratios, strict=True):
        cells = [(1e6 * second, times) for second, times in zip(seconds, ratio, strict=True)]
        print_row(name, *(f"{value:.2f}" for pair in cells for value in pair))


def all_batches(batches: list[dict[str, tuple[Callable, Callable]]], name: str) -> list[float]:
    """Seconds to encode and to decode every batch."""
    return [sum(cpu_seconds(batch[name][direction]) for batch in batches) for direction in (0, 1)]


def compare_single(shape: tuple[int, int], turns: int) -> None:
    """One mask at a time, from empty to full."""
    pixels = shape[0] * shape[1]
    masks = {"empty": "", "full": f"1 {pixels}"}
    for n_runs in (1, 5, 10, 15, 20, 40, 80, 160):
        step = pixels // (n_runs + 1)
        masks[f"{n_runs} runs"] = " ".join(f"{i * step + 7} {i % 40 + 2}" for i in range(n_runs))
    print(f"\none mask of {shape[0]} x {shape[1]} pixels at a time\n")
    print_header("microseconds", "rle_encode", "notebooks", "ratio", "rle_decode", "notebooks", "ratio")
    for name, rle in masks.items():
        mask = rle_decode(rle, shape)
        encode = in_turns(
            lambda mask=mask: rle_encode(mask), lambda mask=mask: encode_as_notebooks_do(mask), turns
        )
        decode = in_turns(
            lambda rle=rle: rle_decode(rle, shape), lambda rle=rle: decode_as_notebooks_do(rle, shape), turns
        )
        print_row(
            name,
            *(f"{value:.1f}" for ours, theirs in (encode, decode) for value in (ours, theirs, theirs / ours)),
        )


def in_turns(ours: Callable, theirs: Callable, turns: int, repeats: int = 100) -> tuple[float, float]:
    def many(work):
        return cpu_seconds(lambda: [work() is None for _ in range(repeats)]) / repeats * 1e6

    times = [(many(ours), many(theirs)) for _ in range(turns)]
    return statistics.median(time for time, _ in times), statistics.median(time for _, time in times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    rows = read_rows(options)
    compare_batches(rows, options.turns)
    compare_single(rows.groupby(["height", "width"]).size().idxmax(), options.turns)


if __name__ == "__main__":
    main()
