"""A made-up scan as a scanner would show it: tissues painted onto shapes, then bias, ghosts and noise.

Contrast, textures and shapes are drawn anew for each scan, as training on synthetic images wants it (Billot et
al. 2023, doi 10.1016/j.media.2023.102789): a network that is to read them must not rely on one brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gitract_kit.competition.anatomy import FULL_DEPTH_MM, Anatomy, Body, Grid, Pose, ScanSize, SmoothNoise
from gitract_kit.competition.layout import ORGANS
from gitract_kit.competition.tubes import TubeFields, large_bowel, small_bowel, stomach

__all__ = ["BRIGHTNESS", "Painter", "Scan", "make_scan"]

_COURSES = {"large_bowel": large_bowel, "small_bowel": small_bowel, "stomach": stomach}
# the stomach lies in front of the bowel where they meet, the large bowel in front of the small one
_FROM_BACK = ("small_bowel", "large_bowel", "stomach")

SMALLEST_OUTLINE_MM2 = 110.0

_UNYIELDING = ("kidney", "vertebra", "muscle", "vessel", "spleen", "hip")

BRIGHTNESS = {
    "fat": (0.65, 1.0),
    "visceral_fat": (0.60, 0.95),
    "wall": (0.16, 0.34),
    "muscle": (0.16, 0.34),
    "rib": (0.05, 0.5),
    "lung": (0.02, 0.07),
    "heart": (0.30, 0.60),
    "liver": (0.20, 0.45),
    "spleen": (0.20, 0.50),
    "kidney": (0.25, 0.50),
    "pancreas": (0.25, 0.55),
    "gallbladder": (0.10, 0.90),
    "sinus": (0.55, 0.90),
    "vertebra": (0.25, 0.60),
    "canal": (0.15, 0.80),
    "process": (0.15, 0.50),
    "vessel": (0.10, 0.55),
    "hip": (0.40, 0.80),
    "arm": (0.15, 0.40),
    "gas": (0.02, 0.08),
    "large_bowel": (0.10, 0.50),
    "small_bowel": (0.20, 0.60),
    "stomach": (0.10, 0.55),
    "large_bowel_lining": (0.20, 0.45),
    "small_bowel_lining": (0.25, 0.55),
    "stomach_lining": (0.30, 0.65),
}
"""Tissues, and the lowest and highest mean brightness of each in a scan, against the brightest fat."""

# what is painted over what: shape, how deep inside it (mm), tissue, and how mottled that is
_LAYERS = (
    ("skin", 0, "fat", 0.03),
    ("arm", 0, "fat", 0),
    ("arm", 6, "arm", 0.2),
    ("arm", 22, "hip", 0),
    ("wall", 0, "wall", 0.15),
    ("rib", 0, "rib", 0),
    ("cavity", 0, "visceral_fat", 0.06),
    ("mesentery", 0, "vessel", 0),
    ("lung", 0, "lung", 0.5),
    ("heart", 0, "heart", 0.12),
    ("liver", 0, "liver", 0.06),
    ("spleen", 0, "spleen", 0.05),
    ("kidney", 0, "kidney", 0.10),
    ("pancreas", 0, "pancreas", 0.15),
    ("gallbladder", 0, "gallbladder", 0),
    ("sinus", 0, "sinus", 0),
    ("liver vessel", 0, "vessel", 0),
    ("muscle", 0, "muscle", 0.15),
    ("marbling", 0, "visceral_fat", 0),
    ("hip", 0, "wall", 0),
    ("hip", 3, "hip", 0),
    ("vessel", 0, "vessel", 0),
    ("process", 0, "process", 0),
    ("vertebra", 0, "wall", 0),
    ("vertebra", 2.5, "vertebra", 0.08),
    ("canal", 0, "canal", 0),
)
_LINING_MM = {"large_bowel": 2.0, "small_bowel": 2.0, "stomach": 3.5}


@dataclass(frozen=True)
class Scan:
    """One scan and its truth."""

    image: np.ndarray
    """``(z, y, x)`` uint16."""
    masks: np.ndarray
    """``(z, organ, y, x)`` bool, organs as in :data:`ORGANS`."""


def make_scan(size: ScanSize, seed: int, case: int, day: int) -> Scan:
    """One scan of a made-up patient; the same arguments give the same scan, whatever else was made before.

    Days of one case share body, courses and contrast; each is bent, filled and lit a little differently.
    """
    return Painter(size, seed, case, day).paint()


class Painter:
    """Holds what one scan has drawn; paints it slice by slice, so that few slices are in memory as floats."""

    content_range = (0.03, 0.75)
    """Darkest and brightest content of stomach and bowel, gas apart."""
    mottling = 1.0
    """Factor on how mottled the other tissues are."""

    def __init__(self, size: ScanSize, seed: int, case: int, day: int) -> None:
        self.size = size
        case_body, case_shape, case_contrast = _generators(seed, case)
        day_shape, day_contrast, self._noise = _generators(seed, case, 1 + day)
        body = self._vary_body(Body.draw(case_body))
        offset_mm = tuple(case_body.uniform(-8, 8, 2) + day_shape.normal(0, 3, 2))
        self.grid = Grid(size, offset_mm)
        self.anatomy = Anatomy(body, self.grid, case_shape, day_shape, self._draw_pose(body))
        self.tubes = {
            organ: TubeFields(course(body, case_shape, day_shape), self.grid)
            for organ, course in _COURSES.items()
        }
        self.last_label_mm = min(body.label_end_mm, size.top_mm + size.depth_mm - 15)
        self._draw_contrast(case_contrast, day_contrast)

    def _vary_body(self, body: Body) -> Body:
        return body

    def _draw_pose(self, body: Body) -> Pose | None:
        return None

    def _draw_contrast(self, case: np.random.Generator, day: np.random.Generator) -> None:
        self.brightness = {
            tissue: case.uniform(low, high) * (1 + 0.07 * day.standard_normal())
            for tissue, (low, high) in BRIGHTNESS.items()
        }
        self.texture = {organ: case.uniform(0.08, 0.45) for organ in ORGANS}
        self.coarse = SmoothNoise(day, 14.0, self.grid)
        self.fine = SmoothNoise(day, 6.5, self.grid)
        self.bias = SmoothNoise(day, 190.0, self.grid)
        self.surface = SmoothNoise(day, 24.0, self.grid)
        self.contact = SmoothNoise(day, 35.0, self.grid)
        self.mesentery = day.uniform(1.5, 2.3)
        self.marbling = day.uniform(0.9, 2.2)
        self.grain = day.uniform(0.02, 0.10)
        self.blur = day.uniform(0.4, 1.0)
        self.bias_strength = day.uniform(0.08, 0.28)
        self.coil_strength = day.uniform(0.1, 0.6)
        self.gain = case.uniform(5000, 10500) * day.uniform(0.9, 1.1)
        self.noise_level = day.uniform(0.006, 0.035)
        self.ghost_strength = day.uniform(0.02, 0.07) if day.random() < 0.3 else 0.0
        self.ghost_shift = int(day.uniform(0.15, 0.5) * self.size.height)
        self.gamma = case.uniform(0.85, 1.2)

    def paint(self) -> Scan:
        slices, height, width = self.size.shape
        image = np.empty(self.size.shape, np.uint16)
        masks = np.zeros((slices, len(ORGANS), height, width), bool)
        for index, z in enumerate(self.grid.z):
            fields = self._fields(index)
            if z < self.last_label_mm:
                for channel, organ in enumerate(ORGANS):
                    masks[index, channel] = _outlined(fields[organ] < 0, self.size.spacing_mm)
            image[index] = self._expose(self._tissues(fields), fields, float(z))
        return Scan(image, masks)

    def _fields(self, index: int) -> dict[str, np.ndarray]:
        """Every shape and texture of one slice at the picture's own resolution."""
        displacement = self.anatomy.displacement(index)
        fields = self.anatomy.shapes(index, displacement)
        fields |= self._organs(index, displacement, fields)
        fields |= {"coarse": self.coarse.at(index), "fine": self.fine.at(index), "bias": self.bias.at(index)}
        size = (self.size.width, self.size.height)
        full = {name: cv2.resize(field.astype(np.float32), size) for name, field in fields.items()}
        return full | self._strands(full)

    def _strands(self, fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Small vessels in fat and liver, and fat between muscle fibres: where the fine noise is high."""
        fine = fields["fine"]
        return {
            "mesentery": np.maximum(fields["cavity"] + 8, 6 * (self.mesentery - fine)),
            "liver vessel": np.maximum(fields["liver"] + 6, 8 * (2.0 - fine)),
            "marbling": np.maximum(fields["muscle"] + 2, 3 * (self.marbling - fine)),
        }

    def _organs(
        self, index: int, displacement: tuple[np.ndarray, np.ndarray], body: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        step_y, step_x = self.grid.step_mm
        rows, columns = np.indices(self.grid.shape, np.float32)
        rows += (displacement[0] / step_y).astype(np.float32)
        columns += (displacement[1] / step_x).astype(np.float32)
        roughness = 1.2 * self.surface.at(index)
        limit = np.maximum(
            body["cavity"] + 2.5, 2 - np.minimum.reduce([body[tissue] for tissue in _UNYIELDING])
        )
        fields: dict[str, np.ndarray] = {}
        for organ, tube in self.tubes.items():
            for part, volume in (("", tube.surface), (" height", tube.height_in_lumen), (" fill", tube.fill)):
                fields[organ + part] = cv2.remap(
                    volume[index], columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
                )
            fields[organ] = np.maximum(fields[organ] + roughness, limit)
        self._keep_apart(fields, index)
        nearest = np.minimum.reduce([fields[organ] for organ in ORGANS])
        # the liver gives way, with a little fat between
        fields["liver"] = np.maximum(body["liver"], 2 - nearest)
        return fields

    def _keep_apart(self, fields: dict[str, np.ndarray], index: int) -> None:
        # drawn outlines of neighbours touch, and now and then overlap by a pixel or two
        overlap_mm = 0.9 * self.contact.at(index) - 0.85
        for place, behind in enumerate(_FROM_BACK):
            for front in _FROM_BACK[place + 1 :]:
                fields[behind] = np.maximum(fields[behind], -(fields[front] + overlap_mm))

    def _tissues(self, fields: dict[str, np.ndarray]) -> np.ndarray:
        image = np.zeros((self.size.height, self.size.width), np.float32)
        for shape, depth_mm, tissue, mottling in _LAYERS:
            value = self.brightness[tissue] * (1 + self.mottling * mottling * fields["coarse"])
            self._cover(image, fields[shape] + depth_mm, value)
        for organ in _FROM_BACK:
            self._cover_organ(image, organ, fields)
        return image

    def _cover_organ(self, image: np.ndarray, organ: str, fields: dict[str, np.ndarray]) -> None:
        surface = fields[organ]
        lumpy = self.texture[organ] * (fields["fine"] + 0.6 * fields["coarse"])
        content = self.brightness[organ] * (1 + 0.4 * fields[organ + " fill"] + lumpy)
        self._cover(image, surface, self.brightness[organ + "_lining"])
        self._cover(image, surface + _LINING_MM[organ], np.clip(content, *self.content_range))
        gas = np.maximum(12 * fields[organ + " height"], surface + _LINING_MM[organ])
        self._cover(image, gas, self.brightness["gas"])

    def _cover(self, image: np.ndarray, surface: np.ndarray, value: np.ndarray | float) -> None:
        """Paint ``value`` inside ``surface``, mixing along its edge as a pixel that holds both tissues does."""
        share = np.clip(0.5 - surface / (1.2 * self.size.spacing_mm), 0, 1)
        image += share * (value - image)

    def _expose(self, tissues: np.ndarray, fields: dict[str, np.ndarray], z: float) -> np.ndarray:
        """From tissues to the numbers a scanner writes: ``(y, x)`` uint16."""
        noise = self._noise.standard_normal((3, *tissues.shape), dtype=np.float32)
        image = np.clip(tissues * (1 + self.grain * noise[2]), 0, None) ** self.gamma
        near_coil = self.coil_strength * np.exp(np.minimum(fields["skin"], 0) / 25)
        image *= np.exp(self.bias_strength * fields["bias"]) * (1 + near_coil)
        image = cv2.GaussianBlur(image, (3, 3), self.blur)
        if self.ghost_strength:
            image += self.ghost_strength * np.roll(image, self.ghost_shift, axis=0)
        image = np.hypot(image + self.noise_level * noise[0], self.noise_level * noise[1])
        image *= self._field_of_view(z)
        return np.clip(self.gain * image, 0, 65535).astype(np.uint16)

    def _field_of_view(self, z: float) -> np.ndarray:
        """The disc that the scanner's field is good in: smaller and darker at both ends of a full scan."""
        end = abs(z - FULL_DEPTH_MM / 2) / (FULL_DEPTH_MM / 2 + 6)
        radius = 265 * np.sqrt(max(0.0, 1 - end**8))
        y = (np.arange(self.size.height) / self.size.height - 0.5) * self.size.height * self.size.spacing_mm
        x = (np.arange(self.size.width) / self.size.width - 0.5) * self.size.width * self.size.spacing_mm
        inside = y[:, None] ** 2 + x[None] ** 2 < radius**2
        return inside * np.float32(1 - 0.55 * end**10)


def _outlined(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """The mask without the specks that nobody would draw: real outlines under 50 pixels are rare (measured)."""
    if not mask.any():
        return mask
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    drawn = statistics[:, cv2.CC_STAT_AREA] * spacing_mm**2 >= SMALLEST_OUTLINE_MM2
    drawn[0] = False
    return drawn[labels]


def _generators(*key: int) -> list[np.random.Generator]:
    return [np.random.default_rng(child) for child in np.random.SeedSequence(key).spawn(3)]
