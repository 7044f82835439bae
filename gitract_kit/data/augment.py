"""Random changes of a training input, the same for every channel of the window and for its mask."""

from __future__ import annotations

import os

import cv2

# albumentations asks the network for a newer version of itself when imported, for up to a minute without one
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A

from gitract_kit.settings import AugmentationSettings

__all__ = ["create_augmentation"]


def create_augmentation(settings: AugmentationSettings, seed: int | None = None) -> A.Compose:
    """Return a transform of ``image`` (H, W, slices) float32 0 to 1 and ``mask`` (H, W, organs) float32.

    Geometric changes reach both alike, changes of intensity only the image. ``seed`` makes the draws repeatable.
    """
    zero = {"border_mode": cv2.BORDER_CONSTANT, "fill": 0.0, "fill_mask": 0.0}
    linear = {"interpolation": cv2.INTER_LINEAR, "mask_interpolation": cv2.INTER_LINEAR}
    affine = A.Affine(
        translate_percent=(-settings.shift, settings.shift),
        scale=(1 - settings.scale, 1 + settings.scale),
        rotate=(-settings.rotate_deg, settings.rotate_deg),
        p=settings.affine,
        **zero,
        **linear,
    )
    reach = settings.distortion_strength
    distortions = {
        "elastic": A.ElasticTransform(alpha=40 * reach, sigma=8, **linear),
        "grid": A.GridDistortion(num_steps=5, distort_limit=0.2 * reach, **linear),
        "optical": A.OpticalDistortion(distort_limit=0.2 * reach, **linear),
    }
    distortion = A.OneOf([distortions[name] for name in settings.distortions], p=settings.elastic)
    intensity = A.OneOf(
        [
            A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.3),
            A.RandomGamma(gamma_limit=(60, 160)),
        ],
        p=settings.intensity,
    )
    dropout = A.CoarseDropout(
        num_holes_range=(1, 5),
        hole_height_range=(0.05, 0.15),
        hole_width_range=(0.05, 0.15),
        p=settings.dropout,
    )
    return A.Compose([A.HorizontalFlip(p=settings.hflip), affine, distortion, intensity, dropout], seed=seed)
