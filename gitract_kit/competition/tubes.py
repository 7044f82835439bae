"""The tubes of a made-up abdomen: stomach, large bowel and small bowel.

Each is a line of points with a radius, drawn from a case's and a day's random numbers: the case decides the
course, the day moves it a little and fills it anew. Frame and units are those of :mod:`anatomy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d

from gitract_kit.competition.anatomy import Body, Grid

__all__ = ["Tube", "TubeFields", "large_bowel", "small_bowel", "stomach"]

TUBE_MARGIN_MM = 7.0
STEP_MM = 3.0


@dataclass(frozen=True)
class Tube:
    """A curled tube: points along its axis, and what changes on the way."""

    points: np.ndarray
    """``(n, 3)`` (x, y, z) in mm, about 3 mm apart."""
    radius: np.ndarray
    """``(n,)`` mm."""
    gas_level: np.ndarray
    """``(n,)`` how far down gas reaches, in radii from the axis towards the back; under -1 there is none."""
    fill: np.ndarray
    """``(n,)`` brightness of the content against its organ's mean, about -1 to 1."""


class TubeFields:
    """A tube drawn on a grid: ``(z, y, x)`` float32 volumes."""

    def __init__(self, tube: Tube, grid: Grid) -> None:
        shape = (len(grid.z), *grid.shape)
        self.surface = np.full(shape, TUBE_MARGIN_MM, np.float32)
        self.height_in_lumen = np.full(shape, 2.0, np.float32)
        self.fill = np.zeros(shape, np.float32)
        for point, radius, level, fill in zip(
            tube.points, tube.radius, tube.gas_level, tube.fill, strict=True
        ):
            self._stamp(grid, point, radius, level, fill)

    def _stamp(self, grid: Grid, point: np.ndarray, radius: float, level: float, fill: float) -> None:
        reach = radius + TUBE_MARGIN_MM
        axes = tuple(zip((grid.z, grid.y, grid.x), point[::-1].astype(np.float32), strict=True))
        box = tuple(slice(*np.searchsorted(axis, (centre - reach, centre + reach))) for axis, centre in axes)
        z, y, x = (axis[cut] - centre for (axis, centre), cut in zip(axes, box, strict=True))
        distance = np.sqrt((z * z)[:, None, None] + (y * y)[:, None] + x * x) - np.float32(radius)
        nearer = distance < self.surface[box]
        self.surface[box][nearer] = distance[nearer]
        height = np.broadcast_to((y / radius - level).astype(np.float32)[:, None], distance.shape)
        self.height_in_lumen[box][nearer] = height[nearer]
        self.fill[box][nearer] = fill


def stomach(body: Body, case: np.random.Generator, day: np.random.Generator) -> Tube:
    """From the fundus under the left dome, forwards and down, to the pylorus right of the midline."""
    top = body.stomach_top_mm
    course = [
        (0.40, 0.30, top + 26, 25),
        (0.43, 0.05, top + 46, 30),
        (0.36, -0.32, top + 68, 26),
        (0.12, -0.50, top + 80, 20),
        (-0.12, -0.42, top + 80, 15),
        (-0.24, -0.28, top + 76, 9),
    ]
    points, radius = _along(body, course, case, day, case_jitter_mm=7.0, day_jitter_mm=3.0)
    radius *= case.uniform(0.85, 1.35) * day.uniform(0.85, 1.2) * body.girth[2]
    return _filled(points, radius, day, gas_mean=-0.9, gas_spread=0.5, shared=0.7)


def large_bowel(body: Body, case: np.random.Generator, day: np.random.Generator) -> Tube:
    """From the caecum up on the right, across behind the belly wall, down on the left, into the pelvis."""
    top, end = body.stomach_top_mm, body.label_end_mm
    sag = case.uniform(-12, 35)
    hepatic = case.uniform(76, 112)
    course = [
        (-0.66, -0.05, end + 22, 19),
        (-0.74, 0.12, end - 18, 21),
        (-0.74, 0.22, 0.5 * (top + hepatic + end - 10), 20),
        (-0.64, 0.02, top + hepatic, 19),
        (-0.46, -0.42, top + hepatic + 10, 17),
        (-0.16, -0.70, top + 100 + sag, 17),
        (0.20, -0.70, top + 96 + sag, 17),
        (0.52, -0.46, top + 72 + 0.4 * sag, 16),
        (0.70, 0.02, top + 40, 17),
        (0.79, 0.28, top + 62, 16),
        (0.80, 0.30, top + 112, 15),
        (0.76, 0.18, end - 26, 15),
        (0.70, 0.02, end + 22, 15),
        (0.40, -0.12, end + 50, 14),
        (0.05, 0.10, end + 62, 14),
    ]
    points, radius = _along(body, course, case, day, case_jitter_mm=9.0, day_jitter_mm=4.0)
    radius *= case.uniform(0.85, 1.25) * day.uniform(0.85, 1.15) * body.girth[0]
    length = np.arange(len(radius)) * STEP_MM
    haustra = np.sin(2 * np.pi * length / case.uniform(24, 34) + 2 * _wander(day, len(radius), 40.0))
    radius *= 1 + 0.18 * body.fold * haustra + 0.14 * body.fold * _wander(day, len(radius), 60.0)
    return _filled(points, radius, day, gas_mean=-0.6, gas_spread=0.9, shared=0.4)


def small_bowel(body: Body, case: np.random.Generator, day: np.random.Generator) -> Tube:
    """From the pylorus round the head of the pancreas, then in loops through the middle."""
    top = body.stomach_top_mm
    duodenum = [
        (-0.24, -0.28, top + 76, 10),
        (-0.40, -0.08, top + 84, 11),
        (-0.42, 0.16, top + 108, 11),
        (-0.12, 0.26, top + 122, 11),
        (0.20, 0.12, top + 110, 11),
    ]
    course = duodenum + [(u, v, z, 10.5) for u, v, z in _loops(body, case)]
    points, radius = _along(body, course, case, day, case_jitter_mm=4.0, day_jitter_mm=5.0)
    radius *= case.uniform(0.85, 1.2) * (1 + 0.16 * body.fold * _wander(day, len(radius), 45.0))
    radius *= body.girth[1]
    return _filled(points, radius, day, gas_mean=-1.5, gas_spread=0.6, shared=0.3)


def _loops(body: Body, rng: np.random.Generator, count: int = 110) -> list[tuple]:
    """Turning points of the loops in units of the cavity: spread out, then chained to the nearest one left."""
    depth = body.label_end_mm + 60 - (body.stomach_top_mm + 85)
    middle = (rng.uniform(0.08, 0.25), -0.2, body.stomach_top_mm + 85 + depth / 2)
    reach = (rng.uniform(0.55, 0.75), 0.52, depth / 2)
    unit = np.array([body.half_width, body.half_height, 1.0])
    kept: list[np.ndarray] = []
    for candidate in rng.uniform(-1, 1, (900, 3)):
        place = (np.array(middle) + candidate * reach) * unit
        inside = (candidate[:2] ** 2).sum() < 1
        if inside and all(np.linalg.norm(place - other) > body.loop_gap_mm for other in kept):
            kept.append(place)
    kept = kept[:count]
    chain = [np.array([0.2, 0.1, body.stomach_top_mm + 110]) * unit]
    while kept:
        # loops lie flat more often than upright
        gaps = [np.linalg.norm((place - chain[-1]) * (1, 1, 1.7)) for place in kept]
        if min(gaps) > 90:
            break
        chain.append(kept.pop(int(np.argmin(gaps))))
    return [tuple(place / unit) for place in chain[1:]]


def _along(
    body: Body,
    course: Sequence[tuple[float, float, float, float]],
    case: np.random.Generator,
    day: np.random.Generator,
    *,
    case_jitter_mm: float,
    day_jitter_mm: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Points ``(n, 3)`` and radii ``(n,)`` every few mm on a smooth line through a jittered course."""
    stations = np.array(course)
    knots = stations[:, :3] * (body.half_width, body.half_height, 1.0)
    strays = body.wander * case_jitter_mm * case.standard_normal(knots.shape)
    knots += strays + body.wander * day_jitter_mm * day.standard_normal(knots.shape)
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    at = np.arange(0.0, lengths[-1], STEP_MM)
    return CubicSpline(lengths, knots)(at), np.interp(at, lengths, stations[:, 3])


def _filled(
    points: np.ndarray,
    radius: np.ndarray,
    rng: np.random.Generator,
    *,
    gas_mean: float,
    gas_spread: float,
    shared: float,
) -> Tube:
    count = len(radius)
    level = gas_mean + gas_spread * (
        shared * rng.standard_normal() + (1 - shared) * 1.5 * _wander(rng, count, 60.0)
    )
    return Tube(points, radius, level, np.clip(0.5 * _wander(rng, count, 50.0), -1, 1))


def _wander(rng: np.random.Generator, count: int, wavelength_mm: float) -> np.ndarray:
    """Smooth random sequence with a standard deviation of about 1."""
    sigma = wavelength_mm / STEP_MM / 4
    smooth = gaussian_filter1d(rng.standard_normal(count), sigma, mode="reflect")
    return smooth * np.sqrt(2 * sigma * np.sqrt(np.pi))
