"""The plain U-Net of Ronneberger, Fischer and Brox 2015 (doi 10.1007/978-3-319-24574-4_28), written from the paper."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

__all__ = ["UNet2015"]


class UNet2015(nn.Module):
    """(b, in_channels, H, W) to logits (b, classes, H, W); H and W are multiples of 2 to the number of stages.

    ``decoder_channels`` are the widths of the expanding path, deepest first; the contracting path mirrors it, and the
    bottom is twice as wide as the deepest. The paper's convolutions are unpadded and its skips cropped, so that its
    output is smaller than its input; here they are padded, and nothing is cropped. As in the paper there is no
    normalisation, a dropout ends the contracting path, and the weights start as normal ones of variance 2 / inputs.
    """

    def __init__(
        self, in_channels: int, classes: int, decoder_channels: tuple[int, ...] = (512, 256, 128, 64)
    ) -> None:
        super().__init__()
        widths = (in_channels, *reversed(decoder_channels))
        bottom = 2 * decoder_channels[0]
        self.contracting = nn.ModuleList(_two_convolutions(*pair) for pair in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        self.bottom = _two_convolutions(decoder_channels[0], bottom)
        self.dropout = nn.Dropout(0.5)
        self.rising = nn.ModuleList(
            nn.ConvTranspose2d(deep, width, 2, stride=2)
            for deep, width in pairwise((bottom, *decoder_channels))
        )
        self.expanding = nn.ModuleList(_two_convolutions(2 * width, width) for width in decoder_channels)
        self.head = nn.Conv2d(decoder_channels[-1], classes, 1)
        self.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        skips, features = [], images
        for stage in self.contracting:
            skips.append(stage(features))
            features = self.pool(skips[-1])
        features = self.dropout(self.bottom(features))
        for rise, stage, skip in zip(self.rising, self.expanding, reversed(skips), strict=True):
            features = stage(torch.cat([skip, rise(features)], dim=1))
        return self.head(features)


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)
