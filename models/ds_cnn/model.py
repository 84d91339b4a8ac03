"""DS-CNN, a keyword spotter of depthwise separable convolutions, size S.

Zhang, Suda, Lai, Chandra, "Hello Edge: Keyword Spotting on Microcontrollers" (2017),
https://arxiv.org/abs/1711.07128, table 5.
"""

from __future__ import annotations

from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: tuple[int, int], groups: int = 1) -> list[nn.Module]:
    """Return a convolution without bias, "same" padding, its batch normalization and ReLU."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class DSCNN(nn.Module):
    """float32 cepstral coefficients [N, 1, 49, 10] to float32 logits [N, 12]; 23,180 parameters."""

    def __init__(self, classes: int = 12, channels: int = 64, depth: int = 4) -> None:
        super().__init__()
        stem = nn.Conv2d(1, channels, (10, 4), stride=2, padding=(4, 1), bias=False)
        blocks = [
            layer
            for _ in range(depth)
            for layer in (
                *conv_bn(channels, channels, (3, 3), groups=channels),
                *conv_bn(channels, channels, (1, 1)),
            )
        ]
        self.body = nn.Sequential(stem, nn.BatchNorm2d(channels), nn.ReLU(inplace=True), *blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, cepstrum: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.classifier(self.pool(self.body(cepstrum)).flatten(1))
        return logits
