from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gitract_kit.competition.anatomy import Grid, Pose, ScanSize
from gitract_kit.competition.index import build_index
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.mr_image import Scan, make_scan
from gitract_kit.competition.phantom import write_phantom
from gitract_kit.competition.wide_variety import make_wide_scan
from gitract_kit.errors import SettingsError

SIZE = ScanSize(width=72, height=60, spacing_mm=6.0, slices=24)


@pytest.fixture(scope="module")
def wide() -> list[Scan]:
    return [make_wide_scan(SIZE, 7, case, 0) for case in range(1, 13)]


@pytest.fixture(scope="module")
def usual() -> list[Scan]:
    return [make_scan(SIZE, 7, case, 0) for case in range(1, 13)]


def test_wide_scan_depends_on_seed_case_and_day_alone(wide: list[Scan]) -> None:
    again = make_wide_scan(SIZE, 7, 1, 0)
    assert np.array_equal(wide[0].image, again.image)
    assert np.array_equal(wide[0].masks, again.masks)
    for other in (wide[1], make_wide_scan(SIZE, 8, 1, 0), make_wide_scan(SIZE, 7, 1, 15)):
        assert not np.array_equal(wide[0].masks, other.masks)


def test_usual_scan_is_what_it_was_before_there_was_a_variety(usual: list[Scan]) -> None:
    # numbers of the scan that the shipped weights were trained on the likes of; rounding may differ by library
    assert usual[0].image.mean() == pytest.approx(1596.5675, rel=1e-4)
    assert usual[0].image.std() == pytest.approx(1768.1804, rel=1e-4)
    assert usual[0].masks.sum(axis=(0, 2, 3)).tolist() == pytest.approx([1019, 494, 912], abs=2)


def test_wide_scans_hold_every_organ(wide: list[Scan]) -> None:
    for scan in wide:
        assert scan.image.dtype == np.uint16
        assert scan.masks.shape == (24, len(ORGANS), 60, 72)
        assert scan.masks.any(axis=(0, 2, 3)).all()


def test_wide_scans_differ_more_than_usual_ones(wide: list[Scan], usual: list[Scan]) -> None:
    for measure in (_organ_contrasts, _label_starts, _organ_columns):
        assert np.std([measure(scan) for scan in wide], axis=0).min() > 1.3 * (
            np.std([measure(scan) for scan in usual], axis=0).min()
        )


def test_wide_slices_differ_in_gain(wide: list[Scan], usual: list[Scan]) -> None:
    assert np.median([_gain_steps(scan) for scan in wide]) > 2 * np.median(
        [_gain_steps(scan) for scan in usual]
    )


def test_pose_moves_enlarges_and_turns_the_body() -> None:
    grid = Grid(SIZE, (0.0, 0.0))
    pose = Pose(move_mm=(12.0, -30.0), zoom=(1.5, 1.25), turn_deg=90.0)
    y, x = pose.displacement(grid.y, grid.x)
    body_y, body_x = y + grid.y[:, None], x + grid.x[None]
    row, column = 20, 50
    # seen in the picture, the body's axes are turned by a quarter
    assert body_y[row, column] == pytest.approx(-(grid.x[column] + 30.0) / 1.5)
    assert body_x[row, column] == pytest.approx((grid.y[row] - 12.0) / 1.25)


def test_wide_phantom_lies_in_the_competitions_layout(tmp_path: Path) -> None:
    paths = write_phantom(
        tmp_path / "wide", cases=2, days=1, test_cases=1, slices=8, sizes=(SIZE,), variety="wide"
    )
    index = build_index(paths.root, "train")
    assert index.groupby("scan")["id"].count().to_dict() == {"case1_day0": 8, "case2_day0": 8}
    assert (index[list(ORGANS)] != "").any(axis=None)


def test_unknown_variety_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'wied'; did you mean 'wide'"):
        write_phantom(tmp_path / "wide", variety="wied")
    assert not (tmp_path / "wide").exists()


def _organ_contrasts(scan: Scan) -> float:
    """Mean brightness inside the large bowel against that of the body."""
    body = scan.image[scan.image > 0.1 * np.percentile(scan.image, 99)]
    return scan.image[scan.masks[:, 0]].mean() / body.mean()


def _label_starts(scan: Scan) -> int:
    return int(np.flatnonzero(scan.masks.any(axis=(1, 2, 3)))[0])


def _organ_columns(scan: Scan) -> float:
    return np.nonzero(scan.masks[:, 2])[2].mean()


def _gain_steps(scan: Scan) -> float:
    means = scan.image.reshape(len(scan.image), -1).mean(axis=1)
    return np.abs(np.diff(np.log(means + 1))).mean()


def test_mixed_cases_are_wide_and_usual_by_turns(tmp_path: Path) -> None:
    for variety in ("usual", "wide", "mixed"):
        write_phantom(
            tmp_path / variety, seed=7, cases=2, days=1, test_cases=1, slices=6, variety=variety, workers=1
        )
    slices = {path.name: sorted(path.rglob("train/**/*.png")) for path in tmp_path.iterdir()}
    first, second = slice(6), slice(6, 12)
    for kept, cases in (("wide", first), ("usual", second)):
        assert [path.read_bytes() for path in slices["mixed"][cases]] == [
            path.read_bytes() for path in slices[kept][cases]
        ]
    assert slices["wide"][0].read_bytes() != slices["usual"][0].read_bytes()
