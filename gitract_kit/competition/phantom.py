"""A made-up competition in the exact layout of the real one, truth included.

    OUT/uw-madison-gi-tract-image-segmentation/     the input tree, as Kaggle mounts it
        train.csv                                   id,class,segmentation: three rows a slice
        sample_submission.csv                       id,class,predicted: every test id, as in the hidden rerun
        train/case1/case1_day0/scans/slice_0001_266_266_1.50_1.50.png
        test/case201/case201_day0/scans/...         cases and a size that training never saw,
        test/case1/case1_day31/scans/...            and a later day of a training case
    OUT/solution.csv                                the test set's truth, in the form of train.csv

Nothing in it is taken from real scans: see :mod:`anatomy` for what is drawn.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from gitract_kit.competition.anatomy import ScanSize
from gitract_kit.competition.layout import ORGANS, UW_MADISON
from gitract_kit.competition.mr_image import Scan, make_scan
from gitract_kit.competition.rle import rle_encode_batch
from gitract_kit.competition.wide_variety import make_wide_scan
from gitract_kit.errors import DatasetError, SettingsError
from gitract_kit.strict import nearest

__all__ = ["REAL_SIZES", "VARIETIES", "PhantomPaths", "write_phantom"]


def _make_mixed_scan(size: ScanSize, seed: int, case: int, day: int) -> Scan:
    make = make_wide_scan if case % 2 else make_scan
    return make(size, seed, case, day)


_MAKERS = {"usual": make_scan, "wide": make_wide_scan, "mixed": _make_mixed_scan}
VARIETIES = tuple(_MAKERS)
"""How much scans differ, the default first: about as real ones do; far more, for weights to start from; or the cases by
turns as in the one and the other."""

REAL_SIZES = (
    ScanSize(),
    ScanSize(width=360, height=310),
    ScanSize(width=276, height=276, spacing_mm=1.63, slices=80, top_mm=95.0, depth_mm=240.0),
    ScanSize(width=234, height=234),
)
"""The competition's four, the most frequent first (host); training scans leave out the last."""

FIRST_TEST_CASE = 201


@dataclass(frozen=True)
class PhantomPaths:
    """Where a made-up competition lies."""

    root: Path
    """The input tree: what the real competition's folder would be."""
    solution: Path
    """The test set's truth, outside the input tree."""


@dataclass(frozen=True)
class _ScanPlan:
    split: str
    case: int
    day: int
    size: ScanSize

    @property
    def name(self) -> str:
        return f"case{self.case}_day{self.day}"


def write_phantom(
    out: str | Path,
    *,
    seed: int = 0,
    cases: int = 4,
    test_cases: int = 3,
    days: int = 2,
    slices: int | None = None,
    sizes: Sequence[ScanSize] = REAL_SIZES,
    variety: str = VARIETIES[0],
    workers: int | None = None,
) -> PhantomPaths:
    """A made-up competition in the new folder ``out``; the same arguments write the same bytes.

    ``cases`` patients of ``days`` scans each are for training. The test set holds one scan of each of
    ``test_cases`` new patients, the first in the last of ``sizes``, which training does not get where there is
    another, and one later day of the first training case. ``slices`` cuts every body into that many
    slices. ``variety`` is one of :data:`VARIETIES`. A scan depends on these two, ``seed``, its case and its day,
    not on how many others are made.

    ``workers`` (processes; default: one a core, and 1 for little) does not change the files; a script that
    asks for several needs the usual ``if __name__ == "__main__"``. Raises :class:`SettingsError` on an impossible
    number, :class:`DatasetError` where ``out`` holds anything. ``out`` appears when it is whole, not before.
    """
    out = Path(out)
    _check_numbers(seed, cases)
    _check_variety(variety)
    _check_counts(
        cases=cases, test_cases=test_cases, days=days, slices=slices, workers=workers, sizes=len(sizes)
    )
    _check_free(out)
    sizes = [replace(size, slices=slices or size.slices) for size in sizes]
    plans = [*_plan_training(seed, cases, days, sizes), *_plan_test(seed, test_cases, days, sizes)]
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        _write_tree(building, plans, seed, variety, workers or _default_workers(plans))
        building.chmod(0o755)
        building.replace(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return PhantomPaths(root=out / UW_MADISON.competition_slug, solution=out / "solution.csv")


def _check_numbers(seed: int, cases: int) -> None:
    if seed < 0:
        raise SettingsError(
            f"seed is {seed}: random numbers start from 0 or more; pass a whole number from 0 up"
        )
    if cases >= FIRST_TEST_CASE:
        raise SettingsError(
            f"cases is {cases}: cases from {FIRST_TEST_CASE} on are the test set's; ask for at most "
            f"{FIRST_TEST_CASE - 1}, or make a second competition with another seed"
        )


def _check_variety(variety: str) -> None:
    if variety not in VARIETIES:
        raise SettingsError(f"no variety is called {variety!r}{nearest(variety, VARIETIES)}")


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise SettingsError(
                f"{name} is {count}: a made-up competition needs at least 1; pass a positive number"
            )


def _check_free(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise DatasetError(
            f"{out} is there and not empty: a made-up competition goes into a new folder; "
            "name another one, or remove this one first"
        )


def _plan_training(seed: int, cases: int, days: int, sizes: Sequence[ScanSize]) -> list[_ScanPlan]:
    seen = sizes[:-1] or sizes
    return [
        _ScanPlan("train", case, day, seen[(case - 1) % len(seen)])
        for case in range(1, cases + 1)
        for day in _treatment_days(seed, case, days)
    ]


def _plan_test(seed: int, test_cases: int, days: int, sizes: Sequence[ScanSize]) -> list[_ScanPlan]:
    unseen_first = [sizes[-1], *sizes[:-1]]
    new = [
        _ScanPlan("test", FIRST_TEST_CASE + k, 0, unseen_first[k % len(unseen_first)])
        for k in range(test_cases)
    ]
    later_day = _treatment_days(seed, 1, days + 1)[-1]
    return [*new, _ScanPlan("test", 1, later_day, sizes[0])]


def _treatment_days(seed: int, case: int, count: int) -> list[int]:
    """Day 0 and the first treatments about three weeks later, a few days apart, as the real names show."""
    rng = np.random.default_rng([seed, case, 0])
    gaps = [0, int(rng.integers(13, 23)), *rng.integers(1, 6, size=max(count - 2, 0))]
    return [int(day) for day in np.cumsum(gaps[:count])]


def _default_workers(plans: Sequence[_ScanPlan]) -> int:
    # starting a process costs about as much as a small scan
    voxels = sum(int(np.prod(plan.size.shape)) for plan in plans)
    return (os.cpu_count() or 1) if voxels > 10_000_000 else 1


def _write_tree(folder: Path, plans: Sequence[_ScanPlan], seed: int, variety: str, workers: int) -> None:
    root = folder / UW_MADISON.competition_slug
    rows = _write_scans(root, plans, seed, variety, min(workers, len(plans)))
    by_split = {
        split: [row for plan, scan in zip(plans, rows, strict=True) if plan.split == split for row in scan]
        for split in ("train", "test")
    }
    _write_csv(root / "train.csv", "id,class,segmentation", by_split["train"])
    _write_csv(folder / "solution.csv", "id,class,segmentation", by_split["test"])
    blank = [row[: row.rindex(",") + 1] for row in by_split["test"]]
    _write_csv(root / "sample_submission.csv", "id,class,predicted", blank)


def _write_scans(
    root: Path, plans: Sequence[_ScanPlan], seed: int, variety: str, workers: int
) -> list[list[str]]:
    write = partial(_write_scan, root, seed, variety)
    if workers == 1:
        return [write(plan) for plan in plans]
    # processes, because a scan is many small array operations and threads wait for each other there
    # (4 scans on 2 cores: 10.7 s with one thread, 13.6 s with two); spawned, because forking beside
    # the threads of torch may hang
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(write, plans))


def _write_scan(root: Path, seed: int, variety: str, plan: _ScanPlan) -> list[str]:
    """Writes the slices of one scan; returns its rows ``id,class,segmentation``."""
    scan = _MAKERS[variety](plan.size, seed, plan.case, plan.day)
    folder = root / plan.split / f"case{plan.case}" / plan.name / "scans"
    folder.mkdir(parents=True)
    rows = []
    for number, (image, masks) in enumerate(zip(scan.image, scan.masks, strict=True), start=1):
        _write_png(folder / _file_name(number, plan.size), image)
        slice_id = f"{plan.name}_slice_{number:04d}"
        rows += [
            f"{slice_id},{organ},{rle}" for organ, rle in zip(ORGANS, rle_encode_batch(masks), strict=True)
        ]
    return rows


def _file_name(number: int, size: ScanSize) -> str:
    spacing = f"{size.spacing_mm:.2f}"
    return f"slice_{number:04d}_{size.width}_{size.height}_{spacing}_{spacing}.png"


def _write_png(path: Path, image: np.ndarray) -> None:
    # not cv2.imwrite, which tells a full disk from success by a flag alone
    _, encoded = cv2.imencode(".png", image)
    path.write_bytes(encoded.tobytes())


def _write_csv(path: Path, header: str, rows: Iterable[str]) -> None:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
