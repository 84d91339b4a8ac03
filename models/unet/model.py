"""A small U-Net: per-pixel classes from an encoder and a decoder with skip connections.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015),
https://arxiv.org/abs/1505.04597, figure 1, with 16 instead of 64 channels at full resolution, "same" padding and batch
normalization.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128, 256)
"""Channels at full resolution, at a half, ... at a sixteenth."""


def double_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Return two 3x3 convolutions with batch normalization and ReLU."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        conv = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """float32 [N, 3, H, W], sides multiples of 16, to float32 logits [N, 21, H, W]; 1,942,917 parameters."""

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(double_conv(a, b) for a, b in zip((3, *WIDTHS), WIDTHS, strict=False))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.upsamplers = nn.ModuleList(nn.ConvTranspose2d(below, width, 2, 2) for below, width in pairs)
        self.decoder = nn.ModuleList(double_conv(below, width) for below, width in pairs)
        self.classifier = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the classes of every pixel."""
        x = self.encoder[0](image)
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))
        for upsample, block, skip in zip(self.upsamplers, self.decoder, reversed(skips), strict=True):
            x = block(torch.cat([skip, upsample(x)], 1))
        logits: Tensor = self.classifier(x)
        return logits
