"""The shapes of a made-up abdomen: where each organ lies on each slice of one scan.

Lengths are mm. A point is (x, y, z): x from the midline towards the patient's left (the image's right), y from
the middle of the abdominal cavity towards the back (the image's bottom), z from the first slice of a full scan
towards the feet. A shape is a field in mm, negative inside and about the distance to its surface near it.

Positions, lengths and frequencies were set by eye against published slices and by the measured labels of eleven
real scans (first and last slice, area and number of parts of each organ).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Anatomy", "Body", "Grid", "Pose", "ScanSize", "SmoothNoise"]

FULL_DEPTH_MM = 432.0
FULL_WIDTH_MM = 540.0


@dataclass(frozen=True)
class ScanSize:
    """The grid of one scan; the defaults are the competition's most frequent one."""

    width: int = 266
    height: int = 266
    spacing_mm: float = 1.5
    slices: int = 144
    top_mm: float = 0.0
    """Where the first slice lies, from the first slice of a full scan."""
    depth_mm: float = FULL_DEPTH_MM
    """What the slices cover; with fewer slices the same body is cut more thickly."""

    @property
    def z_mm(self) -> np.ndarray:
        return self.top_mm + (np.arange(self.slices) + 0.5) * self.depth_mm / self.slices

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.slices, self.height, self.width


class Grid:
    """The pixels that shapes are computed on: every second one where pixels are small."""

    def __init__(self, size: ScanSize, offset_mm: tuple[float, float]) -> None:
        step = 2 if size.spacing_mm < 2.5 else 1
        self.shape = (-(-size.height // step), -(-size.width // step))
        self.z = size.z_mm.astype(np.float32)
        field_of_view = (size.height * size.spacing_mm, size.width * size.spacing_mm)
        self.step_mm = (field_of_view[0] / self.shape[0], field_of_view[1] / self.shape[1])
        # patients lie on the table, so the body is nearer to the picture's top
        self.y = self._centres(0, field_of_view[0] * 0.40 + offset_mm[0])
        self.x = self._centres(1, field_of_view[1] * 0.5 + offset_mm[1])

    def _centres(self, axis: int, origin_mm: float) -> np.ndarray:
        return ((np.arange(self.shape[axis]) + 0.5) * self.step_mm[axis] - origin_mm).astype(np.float32)


class SmoothNoise:
    """Random field over the body with a standard deviation of about 1, the same mm for mm on every grid."""

    def __init__(self, rng: np.random.Generator, wavelength_mm: float, grid: Grid) -> None:
        extents = (FULL_DEPTH_MM + 100.0, FULL_WIDTH_MM, FULL_WIDTH_MM)
        knots = [int(extent / wavelength_mm) + 4 for extent in extents]
        # 2.9 undoes the smoothing of three B-spline axes (about 0.7 each)
        self._values = 2.9 * rng.standard_normal(knots, dtype=np.float32)
        starts = (50.0, FULL_WIDTH_MM / 2, FULL_WIDTH_MM / 2)
        axes = (grid.z, grid.y, grid.x)
        self._z, self._y, self._x = (
            _spline_weights((axis + start) / wavelength_mm, count)
            for axis, start, count in zip(axes, starts, knots, strict=True)
        )

    def at(self, index: int) -> np.ndarray:
        """``(y, x)`` float32 of the slice ``index``."""
        first, weights = self._z
        plane = _blend(self._values, first[index : index + 1], weights[index : index + 1])[0]
        return np.ascontiguousarray(_blend(_blend(plane, *self._y).T, *self._x).T)


def _spline_weights(positions: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """First knot ``(n,)`` and the weights of four knots ``(n, 4)`` of a cubic B-spline."""
    first = np.clip(np.floor(positions).astype(int), 0, count - 4)
    distance = np.abs(positions[:, None] + 1.0 - (first[:, None] + np.arange(4)))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return first, np.where(distance < 1, near, far).astype(np.float32)


def _blend(values: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # not a matrix product: BLAS brings threads of its own, and four knots are few
    columns = weights.T.reshape(4, -1, *(1,) * (values.ndim - 1))
    return sum(column * values[first + knot] for knot, column in enumerate(columns))


def ellipsoid(
    x: np.ndarray,
    y: np.ndarray,
    z: float,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
) -> np.ndarray:
    """Field of an ellipsoid on one slice."""
    squares = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
    return (np.sqrt(squares + ((z - centre[2]) / radii[2]) ** 2) - 1) * min(radii[:2])


def superellipse(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    """Field of a rounded rectangle, as a trunk is: the distance along the ray from its middle."""
    u, v = np.abs(x / half_width), np.abs(y / half_height)
    scale = (u * u * np.sqrt(u) + v * v * np.sqrt(v)) ** 0.4
    return np.sqrt(x * x + y * y) * (1 - 1 / np.maximum(scale, 1e-3))


@dataclass(frozen=True)
class Body:
    """What stays the same from day to day: one patient's measures in mm."""

    half_width: float
    half_height: float
    """Of the abdominal cavity."""
    wall: float
    fat_front: float
    fat_side: float
    fat_back: float
    dome_mm: float
    """Top of the right half of the diaphragm."""
    stomach_top_mm: float
    label_end_mm: float
    """Where the annotators stopped: near the crest of the hip bones."""
    liver_reach: float
    kidney_reach: float
    arm_radius: tuple[float, float]
    """Right and left; 0 where the arm is out of the picture."""
    bend: float = 1.0
    """Factor on how far tissue is bent, and on the lumps of what is not bowel."""
    wander: float = 1.0
    """Factor on how far the courses of stomach and bowel stray from the usual."""
    girth: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors on the radii of large bowel, small bowel and stomach."""
    loop_gap_mm: float = 22.0
    """Between the turning points of the small bowel's loops."""
    fold: float = 1.0
    """Factor on the haustra of the large bowel and on the swellings of any bowel."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Body:
        bulk = rng.uniform(0, 1)
        stomach_top = rng.uniform(138, 185)
        arms = tuple(rng.uniform(26, 36) if rng.random() < 0.5 else 0.0 for _ in range(2))
        return cls(
            half_width=134 + 26 * bulk + rng.uniform(-8, 8),
            half_height=76 + 22 * bulk + rng.uniform(-7, 7),
            wall=rng.uniform(7, 12),
            fat_front=4 + 22 * bulk * rng.uniform(0.3, 1),
            fat_side=6 + 26 * bulk * rng.uniform(0.4, 1),
            fat_back=4 + 18 * bulk * rng.uniform(0.4, 1),
            dome_mm=stomach_top - rng.uniform(15, 32),
            stomach_top_mm=stomach_top,
            label_end_mm=stomach_top + rng.uniform(172, 206),
            liver_reach=rng.uniform(0.8, 1.15),
            kidney_reach=rng.uniform(0.85, 1.15),
            arm_radius=arms,
        )


@dataclass(frozen=True)
class Pose:
    """How the patient lies in the picture; a move of (0, 0) puts the body where `Grid` wants it."""

    move_mm: tuple[float, float] = (0.0, 0.0)
    """Towards the bottom and the right of the picture."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Factors on the body's height and width in the picture."""
    turn_deg: float = 0.0

    def displacement(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far (y, x) the pixels at ``y`` (rows,) and ``x`` (columns,) lie from their place in the body, mm."""
        sine, cosine = np.sin(np.deg2rad(self.turn_deg)), np.cos(np.deg2rad(self.turn_deg))
        down, right = y[:, None] - self.move_mm[0], x[None] - self.move_mm[1]
        in_body_y = (cosine * down - sine * right) / self.zoom[0]
        in_body_x = (sine * down + cosine * right) / self.zoom[1]
        return in_body_y - y[:, None], in_body_x - x[None]


class Anatomy:
    """One patient on one day, cut into slices."""

    def __init__(
        self,
        body: Body,
        grid: Grid,
        case: np.random.Generator,
        day: np.random.Generator,
        pose: Pose | None = None,
    ) -> None:
        self.body = body
        self.grid = grid
        self._bends = [(6.0 * body.bend, SmoothNoise(case, 110.0, grid)) for _ in range(2)]
        self._day_bends = [(3.5 * body.bend, SmoothNoise(day, 75.0, grid)) for _ in range(2)]
        self._lumps = SmoothNoise(case, 45.0, grid)
        self._pose = None if pose is None else pose.displacement(grid.y, grid.x)

    def displacement(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """How far (y, x) each pixel of a slice is moved from the undeformed body, mm."""
        y, x = (
            sum(size * noise.at(index) for size, noise in pair)
            for pair in zip(self._bends, self._day_bends, strict=True)
        )
        if self._pose is None:
            return y, x
        return y + self._pose[0], x + self._pose[1]

    def shapes(self, index: int, displacement: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
        """Fields of everything but the three organs on one slice, ``(y, x)`` float32 each."""
        y = self.grid.y[:, None] + displacement[0]
        x = self.grid.x[None] + displacement[1]
        z = float(self.grid.z[index])
        lumps = 4.0 * self.body.bend * self._lumps.at(index)
        trunk = self._trunk(x, y, z)
        viscera = self._viscera(x, y, z, lumps, trunk)
        back = self._back(x, y, z)
        back["muscle"] = np.maximum(back["muscle"], trunk["skin"] + 3)
        return {**trunk, **viscera, **back, "arm": self._arms(x, y, z)}

    def _trunk(self, x: np.ndarray, y: np.ndarray, z: float) -> dict[str, np.ndarray]:
        body = self.body
        # shoulders and hips are broader than the waist
        broad = 1 + 0.10 * _ramp(z, body.label_end_mm - 40, body.label_end_mm + 60) + 0.04 * _ramp(z, 150, 60)
        cavity = superellipse(x, y, body.half_width * broad, body.half_height)
        back = 36 + body.fat_back
        skin = superellipse(
            x,
            y + (body.fat_front - back) / 2,
            body.half_width * broad + body.wall + body.fat_side,
            body.half_height + body.wall + (body.fat_front + back) / 2,
        )
        wall = cavity - body.wall * (1 + 0.5 * np.clip(y / body.half_height, -0.5, 1))
        angle = np.arctan2(y * 1.5, x)
        ribs = np.cos(11 * angle + z / 7.0)
        rib = np.abs(cavity - 4) - 3.5 + 4 * (1 - ribs) + 8 * _ramp(z, body.dome_mm + 60, body.dome_mm + 110)
        wall = np.maximum(wall, skin + 3)
        return {"skin": skin, "wall": wall, "cavity": cavity, "rib": np.maximum(rib, wall)}

    def _viscera(
        self, x: np.ndarray, y: np.ndarray, z: float, lumps: np.ndarray, trunk: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        a, b, dome = self.body.half_width, self.body.half_height, self.body.dome_mm
        inside = trunk["cavity"] + 1
        heart = ellipsoid(x, y, z, (0.15 * a, -0.3 * b, dome - 38), (0.40 * a, 0.5 * b, 48)) + 0.5 * lumps
        middle = ellipsoid(x, y, z, (4, 0.45 * b, z), (34, 0.75 * b, 1)) + 0.5 * lumps
        lung = np.maximum(
            np.maximum(inside, 0.5 * (z - self._diaphragm(x, y))), -np.minimum(heart, middle) + 2
        )
        reach = self.body.liver_reach
        # the lower edge of the liver draws back towards the side and the back
        lower = (z - dome - 62) / 84
        right_centre = ((-0.47 - 0.20 * lower) * a, (0.02 + 0.18 * lower) * b, dome + 62)
        right = ellipsoid(x, y, z, right_centre, (0.60 * a, 1.0 * b, 84 * reach))
        left = ellipsoid(x, y, z, (-0.02 * a, -0.55 * b, dome + 48), (0.60 * a, 0.45 * b, 46 * reach))
        spleen = ellipsoid(x, y, z, (0.78 * a, 0.40 * b, dome + 66), (0.22 * a, 0.50 * b, 50 * reach))
        abdomen = np.maximum(inside, -lung)
        top = self.body.stomach_top_mm
        pancreas = np.minimum(
            ellipsoid(x, y, z, (0.28 * a, 0.02 * b, top + 84), (0.40 * a, 0.13 * b, 15)),
            ellipsoid(x, y, z, (-0.20 * a, 0.04 * b, top + 98), (0.14 * a, 0.18 * b, 22)),
        )
        gallbladder = ellipsoid(x, y, z, (-0.40 * a, -0.36 * b, top + 78), (0.12 * a, 0.22 * b, 26))
        return {
            "lung": lung,
            "heart": np.maximum(heart, inside + 2),
            "liver": np.maximum(np.minimum(right, left) + lumps, abdomen + 1),
            "spleen": np.maximum(spleen + 0.7 * lumps, abdomen + 1),
            "pancreas": np.maximum(pancreas + 0.8 * lumps, abdomen + 1),
            "gallbladder": np.maximum(gallbladder + 0.5 * lumps, abdomen + 1),
        }

    def _diaphragm(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The z under which there is no lung."""
        u, v = x / self.body.half_width, y / self.body.half_height
        right = 85 * (((u + 0.45) / 0.8) ** 2 + ((v + 0.1) / 1.0) ** 2)
        left = 85 * (((u - 0.45) / 0.8) ** 2 + ((v + 0.1) / 1.0) ** 2) + 10
        return self.body.dome_mm + np.minimum(right, left)

    def _back(self, x: np.ndarray, y: np.ndarray, z: float) -> dict[str, np.ndarray]:
        b, dome, end = self.body.half_height, self.body.dome_mm, self.body.label_end_mm
        away = np.abs(x)
        spine_y = 0.72 * b
        disc = 2.0 * np.cos(2 * np.pi * z / 34)
        vertebra = ellipsoid(x, y, z, (0, spine_y, z), (24 + disc, 19 + disc, 1))
        process = np.maximum(away - 4, np.abs(y - spine_y - 42) - 14)
        psoas_size = _ramp(z, dome + 100, dome + 190)
        psoas = ellipsoid(
            away, y, z, (36 + 6 * psoas_size, spine_y + 2, z), (4 + 16 * psoas_size, 4 + 18 * psoas_size, 1)
        )
        paraspinal = ellipsoid(away, y, z, (37, spine_y + 38, z), (35, 22, 1))
        kidneys = [self._kidney(x, y, z, side) for side in (-1, 1)]
        crest = _ramp(z, end - 8, end + 75)
        hip = ellipsoid(
            away, y, z, (112 - 22 * crest, 0.45 * b + 8 * crest, z), (8 + 10 * crest, 8 + 44 * crest, 1)
        )
        gluteal = ellipsoid(
            away, y, z, (105 - 20 * crest, 0.80 * b + 12, z), (50, 8 + 30 * crest, 1)
        ) + 40 * (crest == 0)
        return {
            "vertebra": vertebra,
            "canal": ellipsoid(x, y, z, (0, spine_y + 25, z), (9, 8, 1)),
            "process": process,
            "muscle": np.minimum(np.minimum(psoas, paraspinal), gluteal),
            "vessel": np.minimum(
                ellipsoid(x, y, z, (9, spine_y - 29, z), (9.5, 9.5, 1)),
                ellipsoid(x, y, z, (-16, spine_y - 26, z), (11, 9, 1)),
            ),
            "kidney": np.minimum(*(kidney for kidney, _ in kidneys)),
            "sinus": np.minimum(*(sinus for _, sinus in kidneys)),
            "hip": hip + 40 * (crest == 0),
        }

    def _kidney(self, x: np.ndarray, y: np.ndarray, z: float, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The kidney and the fat at its hilum, on the right (-1) or left (1)."""
        reach = self.body.kidney_reach
        centre = (
            side * (0.30 * self.body.half_width + 28),
            0.50 * self.body.half_height,
            self.body.dome_mm + 118 - 8 * side,
        )
        kidney = ellipsoid(x, y, z, centre, (26 * reach, 29 * reach, 52 * reach))
        hilum = (centre[0] - side * 14, centre[1] - 6, centre[2])
        return kidney, ellipsoid(x, y, z, hilum, (13 * reach, 9 * reach, 28 * reach))

    def _arms(self, x: np.ndarray, y: np.ndarray, z: float) -> np.ndarray:
        arm = np.full(x.shape, 50.0, np.float32)
        for side, radius in zip((-1, 1), self.body.arm_radius, strict=True):
            if radius:
                beside = self.body.half_width + self.body.wall + self.body.fat_side + radius + 12
                centre = (side * (beside + 0.04 * (z - 200)), 0.55 * self.body.half_height, z)
                arm = np.minimum(arm, ellipsoid(x, y, z, centre, (radius, radius * 0.9, 1)))
        return arm


def _ramp(value: float, start: float, stop: float) -> float:
    """0 before ``start``, 1 after ``stop``, straight between; ``start`` may lie behind ``stop``."""
    return float(np.clip((value - start) / (stop - start), 0, 1))
