"""ResUNet++ of Jha et al. 2019 (doi 10.1109/ISM46123.2019.00049), written from the paper.

A residual U-Net with squeeze-and-excitation after each encoder block, atrous spatial pyramid pooling between encoder
and decoder and again before the output, and attention on what each decoder block is given. The paper leaves open
the widths, the rates and the reduction; those here are of the authors' published network.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

__all__ = ["ResUNetPlusPlus"]

_REDUCTION = 8
_RATES = (1, 6, 12, 18)


class ResUNetPlusPlus(nn.Module):
    """(b, in_channels, H, W) to logits (b, classes, H, W); H and W are multiples of 2 to the number of stages.

    ``decoder_channels`` are the widths of the decoder's stages, deepest first. The encoder mirrors them behind a stem
    of half the narrowest; the bridge is twice as wide as the deepest.
    """

    def __init__(
        self, in_channels: int, classes: int, decoder_channels: tuple[int, ...] = (128, 64, 32)
    ) -> None:
        super().__init__()
        narrowest, bridge = decoder_channels[-1] // 2, 2 * decoder_channels[0]
        encoder = (narrowest, *reversed(decoder_channels))
        self.stem = _Stem(in_channels, narrowest)
        self.encoder = nn.ModuleList(
            nn.Sequential(_Residual(before, after, stride=2), _SqueezeExcitation(after))
            for before, after in pairwise(encoder)
        )
        self.bridge = _AtrousPyramid(encoder[-1], bridge)
        skips = encoder[-2::-1]
        inputs = (bridge, *decoder_channels[:-1])
        self.attention = nn.ModuleList(
            _Attention(skip, deep) for skip, deep in zip(skips, inputs, strict=True)
        )
        self.decoder = nn.ModuleList(
            _Residual(deep + skip, width)
            for deep, skip, width in zip(inputs, skips, decoder_channels, strict=True)
        )
        self.pyramid = _AtrousPyramid(decoder_channels[-1], narrowest)
        self.head = nn.Conv2d(narrowest, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        skips = [self.stem(images)]
        for block in self.encoder:
            skips.append(block(skips[-1]))
        features = self.bridge(skips.pop())
        for attention, block in zip(self.attention, self.decoder, strict=True):
            skip = skips.pop()
            raised = functional.interpolate(attention(skip, features), scale_factor=2.0, mode="nearest")
            features = block(torch.cat([raised, skip], dim=1))
        return self.head(self.pyramid(features))


class _Stem(nn.Module):
    """The first residual block, whose input is the image: nothing is normalised before the first convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1), *_activated(after, nn.Conv2d(after, after, 3, padding=1))
        )
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1), nn.BatchNorm2d(after))
        self.excitation = _SqueezeExcitation(after)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.excitation(self.body(images) + self.shortcut(images))


class _Residual(nn.Module):
    """Two pre-activated convolutions and a shortcut; the first convolution may halve the size."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_activated(before, nn.Conv2d(before, after, 3, stride=stride, padding=1)),
            *_activated(after, nn.Conv2d(after, after, 3, padding=1)),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride), nn.BatchNorm2d(after))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.body(features) + self.shortcut(features)


class _SqueezeExcitation(nn.Module):
    """Weighs the channels by what is in all of the image (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = max(1, width // _REDUCTION)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, squeezed, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(squeezed, width, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features * self.weigh(features)


class _AtrousPyramid(nn.Module):
    """Parallel convolutions of several reaches, summed (Chen et al. 2017)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.reaches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=rate, dilation=rate), nn.BatchNorm2d(after))
            for rate in _RATES
        )
        self.project = nn.Conv2d(after, after, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.project(sum(reach(features) for reach in self.reaches))


class _Attention(nn.Module):
    """Weighs deep features by themselves and by the skip of twice their size."""

    def __init__(self, skip: int, deep: int) -> None:
        super().__init__()
        self.of_skip = nn.Sequential(*_activated(skip, nn.Conv2d(skip, deep, 3, padding=1)), nn.MaxPool2d(2))
        self.of_deep = nn.Sequential(*_activated(deep, nn.Conv2d(deep, deep, 3, padding=1)))
        self.weigh = nn.Sequential(*_activated(deep, nn.Conv2d(deep, deep, 3, padding=1)))

    def forward(self, skip: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        return deep * self.weigh(self.of_skip(skip) + self.of_deep(deep))


def _activated(width: int, convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return nn.BatchNorm2d(width), nn.ReLU(), convolution
