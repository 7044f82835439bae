"""A made-up scan that differs from the next far more than real scans do: what weights to start from are trained on.

Domain randomisation as in SynthSeg (Billot et al. 2023, doi 10.1016/j.media.2023.102789): body, position, course of the
bowel, contrast, texture, field of the coils, sharpness and noise are drawn anew for each scan, and from ranges that
reach past the plausible, inverted contrasts included. Which organ lies where, and what its outline follows, is all that
stays, and so all that a network can learn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from gitract_kit.competition.anatomy import Body, Pose, ScanSize, SmoothNoise
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.mr_image import BRIGHTNESS, Painter, Scan

__all__ = ["make_wide_scan"]

# keeps these draws apart from those of the case and the day, which stay what they are without the variety
_STREAM = 90_001


def make_wide_scan(size: ScanSize, seed: int, case: int, day: int) -> Scan:
    """One scan of the wide variety; the same arguments give the same scan, whatever else was made before.

    Days of one case share body, contrast and textures; position, field and noise change.
    """
    return _WidePainter(size, seed, case, day).paint()


class _WidePainter(Painter):
    def __init__(self, size: ScanSize, seed: int, case: int, day: int) -> None:
        self._case = np.random.default_rng([seed, case, _STREAM])
        self._day = np.random.default_rng([seed, case, _STREAM, 1 + day])
        super().__init__(size, seed, case, day)

    def _vary_body(self, body: Body) -> Body:
        rng = self._case
        lower, longer = rng.uniform(-50, 90), rng.uniform(-35, 35)
        fat = _times(rng, 2.0)
        return replace(
            body,
            half_width=body.half_width * rng.uniform(0.9, 1.12),
            half_height=body.half_height * rng.uniform(0.85, 1.25),
            wall=body.wall * _times(rng, 1.5),
            fat_front=body.fat_front * fat * _times(rng, 1.4),
            fat_side=body.fat_side * fat,
            fat_back=body.fat_back * fat,
            dome_mm=body.dome_mm + lower + rng.uniform(-15, 15),
            stomach_top_mm=body.stomach_top_mm + lower,
            label_end_mm=body.label_end_mm + lower + longer,
            liver_reach=body.liver_reach * rng.uniform(0.8, 1.2),
            kidney_reach=body.kidney_reach * rng.uniform(0.8, 1.2),
            bend=rng.uniform(0.8, 2.2),
            wander=rng.uniform(0.8, 2.2),
            girth=tuple(_times(rng, 1.5) for _ in ORGANS),
            loop_gap_mm=rng.uniform(17, 28),
            fold=rng.uniform(0.5, 2.0),
        )

    def _draw_pose(self, body: Body) -> Pose:
        zoom = _times(self._case, 1.25)
        zooms = (zoom * _times(self._day, 1.05), zoom * _times(self._day, 1.05))
        reach_mm = zooms[1] * (body.half_width + body.wall + body.fat_side)
        free_mm = max(20.0, self.size.width * self.size.spacing_mm / 2 - reach_mm)
        move_mm = (self._day.uniform(-30, 45), 0.8 * free_mm * self._day.uniform(-1, 1))
        return Pose(move_mm, zooms, self._day.normal(0, 5))

    def _draw_contrast(self, case: np.random.Generator, day: np.random.Generator) -> None:
        super()._draw_contrast(case, day)
        rng = self._case
        self.brightness = _draw_brightness(rng)
        self.texture = {organ: rng.uniform(0.05, 0.7) for organ in ORGANS}
        self.content_range = (0.02, 1.1)
        self.gamma = _times(rng, 1.6)
        self.mesentery = rng.uniform(1.0, 2.4)
        self.mottling = rng.uniform(0.5, 3.0)
        self.resolution = rng.uniform(1.0, 2.0)
        self._draw_textures()
        self._draw_exposure()

    def _draw_textures(self) -> None:
        rng, grid = self._day, self.grid
        self.coarse = SmoothNoise(rng, self._case.uniform(9, 22), grid)
        self.fine = SmoothNoise(rng, self._case.uniform(5, 9), grid)
        self.bias = SmoothNoise(rng, rng.uniform(90, 250), grid)
        self.surface = SmoothNoise(rng, rng.uniform(16, 32), grid)

    def _draw_exposure(self) -> None:
        rng = self._day
        self.grain = rng.uniform(0.0, 0.15)
        self.blur = rng.uniform(0.3, 1.4)
        self.bias_strength = rng.uniform(0.03, 0.4)
        self.coil_strength = rng.uniform(0.0, 1.4)
        self.noise_level = 0.06 * rng.uniform(0, 1) ** 2
        self.gains = self._draw_gains(rng)
        self.flares = [_Flare.draw(rng, self.size) for _ in range(rng.integers(0, 3))]

    def _draw_gains(self, rng: np.random.Generator) -> np.ndarray:
        """A factor a slice: a slow change along the body, and now and then a jump."""
        count = self.size.slices
        knots = rng.standard_normal(9) * rng.uniform(0, 0.9)
        slow = np.interp(np.linspace(0, 8, count), np.arange(9), knots)
        jumps = rng.uniform(0, 0.25) * rng.standard_normal(count)
        return np.exp(slow + jumps).astype(np.float32)

    def _expose(self, tissues: np.ndarray, fields: dict[str, np.ndarray], z: float) -> np.ndarray:
        noise = self._noise.standard_normal((3, *tissues.shape), dtype=np.float32)
        image = np.clip(tissues * (1 + self.grain * noise[2]), 0, None) ** self.gamma
        near_coil = self.coil_strength * np.exp(np.minimum(fields["skin"], 0) / 25)
        image *= np.exp(self.bias_strength * fields["bias"]) * (1 + near_coil)
        for flare in self.flares:
            flare.add(image, z)
        image = self._blurred(image)
        image = np.hypot(image + self.noise_level * noise[0], self.noise_level * noise[1])
        image *= self._field_of_view(z) * self.gains[int(np.searchsorted(self.grid.z, z))]
        return np.clip(self.gain * image, 0, 65535).astype(np.uint16)

    def _blurred(self, image: np.ndarray) -> np.ndarray:
        """The image as a scanner of coarser pixels would write it onto this grid."""
        height, width = image.shape
        coarse = (round(width / self.resolution), round(height / self.resolution))
        image = cv2.GaussianBlur(image, (0, 0), self.blur)
        return cv2.resize(
            cv2.resize(image, coarse, interpolation=cv2.INTER_AREA), (width, height), cv2.INTER_LINEAR
        )


@dataclass(frozen=True)
class _Flare:
    """A bright spot at the side of the picture, where an arm lies past the good part of the field."""

    y_px: float
    x_px: float
    radius_px: float
    brightness: float
    z_mm: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator, size: ScanSize) -> _Flare:
        from_edge = rng.uniform(-5, 25) / size.spacing_mm
        start = rng.uniform(-100, 400)
        return cls(
            y_px=size.height * rng.uniform(0.15, 0.75),
            x_px=from_edge if rng.random() < 0.5 else size.width - from_edge,
            radius_px=rng.uniform(6, 20) / size.spacing_mm,
            brightness=rng.uniform(0.7, 2.5),
            z_mm=(start, start + rng.uniform(60, 300)),
        )

    def add(self, image: np.ndarray, z: float) -> None:
        if not self.z_mm[0] <= z <= self.z_mm[1]:
            return
        y = (np.arange(image.shape[0], dtype=np.float32) - self.y_px) / self.radius_px
        x = (np.arange(image.shape[1], dtype=np.float32) - self.x_px) / self.radius_px
        image += np.float32(self.brightness) * np.exp(-((y * y)[:, None] / 4 + x * x))


def _draw_brightness(rng: np.random.Generator) -> dict[str, float]:
    """Usual contrasts, stretched, in four of five scans; else inverted ones, or any at all."""
    kind = rng.choice(["usual", "inverted", "any"], p=[0.8, 0.05, 0.15])
    if kind == "any":
        drawn = {tissue: rng.uniform(0.03, 1.0) for tissue in BRIGHTNESS}
    else:
        drawn = {
            tissue: rng.uniform(0.6 * low, min(1.05, 1.35 * high))
            for tissue, (low, high) in BRIGHTNESS.items()
        }
    if kind == "inverted":
        drawn = {tissue: max(0.03, 1.0 - value) for tissue, value in drawn.items()}
    # air gives no signal, whatever the contrast
    return {**drawn, "gas": rng.uniform(0.0, 0.15), "lung": rng.uniform(0.0, 0.15)}


def _times(rng: np.random.Generator, most: float) -> float:
    """A factor from ``1 / most`` to ``most``, as often under 1 as over it."""
    return float(np.exp(np.log(most) * rng.uniform(-1, 1)))
