"""Outlines run along the pixels' edges, and a scan's pictures stay small."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gitract_kit.report.slices import encode_slices, trace_outlines


def walk(outline: list[int]) -> list[tuple[int, int]]:
    """The corners of an outline, as the page's script walks them."""
    x, y, *steps = outline
    corners = [(x, y)]
    for i, step in enumerate(steps):
        x, y = (x, y + step) if i % 2 else (x + step, y)
        corners.append((x, y))
    return corners


def fill(outlines: list[list[int]], shape: tuple[int, int]) -> np.ndarray:
    """The mask whose pixel centres lie inside an odd number of outlines: counted along each row."""
    crossings = np.zeros((shape[0], shape[1] + 1), dtype=int)
    for outline in outlines:
        corners = walk(outline)
        for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
            assert x1 == x2 or y1 == y2, "an outline leaves the pixels' edges"
            if x1 == x2:
                crossings[min(y1, y2) : max(y1, y2), x1] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_outlines_enclose_exactly_the_mask(mask):
    np.testing.assert_array_equal(fill(trace_outlines(mask), mask.shape), mask)


@given(st.integers(0, 2**32 - 1))
def test_outlines_enclose_exactly_a_ragged_mask_with_holes(seed):
    noise = np.random.default_rng(seed).normal(size=(40, 50)).astype(np.float32)
    mask = cv2.GaussianBlur(noise, (5, 5), 0) > 0.05
    np.testing.assert_array_equal(fill(trace_outlines(mask), mask.shape), mask)


def test_a_single_pixel_has_an_outline_of_four_edges():
    mask = np.zeros((5, 6), dtype=bool)
    mask[2, 3] = True
    (outline,) = trace_outlines(mask)
    assert set(walk(outline)) == {(3, 2), (4, 2), (4, 3), (3, 3)}


def test_an_empty_mask_has_no_outline():
    assert trace_outlines(np.zeros((4, 4), dtype=bool)) == []


def test_a_rectangle_takes_seven_numbers_at_most():
    mask = np.zeros((60, 60), dtype=bool)
    mask[5:50, 10:40] = True
    (outline,) = trace_outlines(mask)
    assert len(outline) <= 7


def test_slices_come_back_as_they_were_but_for_the_compression():
    y, x = np.mgrid[:40, :52]
    volume = np.stack([(x * 4).astype(np.uint8), (y * 5).astype(np.uint8)])
    for image, picture in zip(volume, encode_slices(volume), strict=True):
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert decoded.shape == image.shape
        assert np.abs(decoded.astype(int) - image).mean() < 4


def test_a_noisy_scan_gives_up_quality_to_keep_its_share_of_the_page():
    noise = np.random.default_rng(0).normal(128, 60, size=(24, 512, 512)).clip(0, 255).astype(np.uint8)
    pictures = encode_slices(np.stack([cv2.blur(image, (5, 5)) for image in noise]))
    # at the best quality these take 1.2 million
    assert 600_000 < sum(map(len, pictures)) <= 900_000
