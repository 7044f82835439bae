from __future__ import annotations

import numpy as np
import pytest

from gitract_kit.competition.anatomy import ScanSize
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.mr_image import Scan, make_scan

SIZE = ScanSize(width=100, height=100, spacing_mm=4.0, slices=48)


@pytest.fixture(scope="module")
def scans() -> dict[tuple[int, int], Scan]:
    """Three patients on two days each."""
    return {(case, day): make_scan(SIZE, 3, case, day) for case in (1, 2, 3) for day in (0, 20)}


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_scan_has_the_size_asked_for(scans: dict[tuple[int, int], Scan]) -> None:
    scan = scans[1, 0]
    assert (scan.image.shape, scan.image.dtype) == ((48, 100, 100), np.uint16)
    assert (scan.masks.shape, scan.masks.dtype) == ((48, len(ORGANS), 100, 100), np.bool_)


def test_every_organ_is_drawn_and_absent_at_both_ends(scans: dict[tuple[int, int], Scan]) -> None:
    for scan in scans.values():
        present = scan.masks.any(axis=(2, 3))
        assert present.any(axis=0).all()
        assert not present[:4].any()
        assert not present[-4:].any()


def test_short_scan_has_no_organ_on_its_last_slices() -> None:
    scan = make_scan(
        ScanSize(width=90, height=90, spacing_mm=5.0, slices=40, top_mm=95.0, depth_mm=240.0), 3, 1, 0
    )
    assert scan.masks.any(axis=(0, 2, 3)).all()
    assert not scan.masks[-2:].any()


def test_stomach_comes_before_the_small_bowel(scans: dict[tuple[int, int], Scan]) -> None:
    for scan in scans.values():
        first = scan.masks.any(axis=(2, 3)).argmax(axis=0)
        assert first[ORGANS.index("stomach")] < first[ORGANS.index("small_bowel")]


def test_organs_overlap_on_some_slices_and_not_on_most() -> None:
    slices = np.concatenate([make_scan(ScanSize(slices=24), 3, case, 0).masks for case in (1, 2, 3)])
    labelled = slices.any(axis=(1, 2, 3))
    shared = (slices.sum(axis=1) > 1).any(axis=(1, 2))
    assert 0.02 < shared[labelled].mean() < 0.6


def test_days_of_a_case_are_more_alike_than_two_cases_and_not_equal(
    scans: dict[tuple[int, int], Scan],
) -> None:
    bowel = {key: scan.masks.any(axis=1) for key, scan in scans.items()}
    same_case = [_dice(bowel[case, 0], bowel[case, 20]) for case in (1, 2, 3)]
    two_cases = [_dice(bowel[one, 0], bowel[other, 0]) for one, other in ((1, 2), (1, 3), (2, 3))]
    assert min(same_case) > max(two_cases)
    assert max(same_case) < 0.97


def test_contrast_changes_from_case_to_case(scans: dict[tuple[int, int], Scan]) -> None:
    tones = [scans[case, 0].image[scans[case, 0].masks.any(axis=1)].mean() for case in (1, 2, 3)]
    assert np.ptp(tones) > 0.1 * np.mean(tones)


def test_same_arguments_give_the_same_scan_and_another_seed_another(
    scans: dict[tuple[int, int], Scan],
) -> None:
    again, other = make_scan(SIZE, 3, 1, 0), make_scan(SIZE, 4, 1, 0)
    np.testing.assert_array_equal(again.image, scans[1, 0].image)
    np.testing.assert_array_equal(again.masks, scans[1, 0].masks)
    assert _dice(other.masks.any(axis=1), again.masks.any(axis=1)) < 0.9


def test_one_body_has_the_same_organs_in_mm_at_every_size() -> None:
    narrow, wide = ScanSize(slices=24), ScanSize(width=360, height=310, slices=24)
    areas = [make_scan(size, 3, 1, 0).masks.sum(axis=(0, 2, 3)) for size in (narrow, wide)]
    np.testing.assert_allclose(areas[0], areas[1], rtol=0.03)
