"""ResNet-18 with attention gates on channels and on positions (CBAM).

Woo, Park, Lee, Kweon, "CBAM: Convolutional Block Attention Module" (2018), https://arxiv.org/abs/1807.06521, section 3;
the network: He, Zhang, Ren, Sun (2015), https://arxiv.org/abs/1512.03385, table 1.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

REDUCTION = 16


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return a convolution without bias, "same" padding, and its batch normalization."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class ChannelGate(nn.Module):
    """Scale every channel by a sigmoid of what two layers make of the means and of the maxima of all channels.

    The second layer is linear, so that it is applied once, to the sum of what the first makes of both.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean, self.maximum = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.squeeze = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(channels // REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W], shape kept."""
        hidden = self.relu(self.squeeze(self.mean(x))) + self.relu(self.squeeze(self.maximum(x)))
        return x * torch.sigmoid(self.expand(hidden))


class SpatialGate(nn.Module):
    """Scale every position by a sigmoid of a 7x7 convolution of the mean and the maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W], shape kept."""
        over_channels = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(over_channels))


class Block(nn.Module):
    """Two 3x3 convolutions, both gates, and a skip connection, projected by a 1x1 convolution where needed."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = [*conv_bn(inputs, outputs, 3, stride), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*first, *conv_bn(outputs, outputs, 3))
        self.gates = nn.Sequential(ChannelGate(outputs), SpatialGate())
        same = inputs == outputs and stride == 1
        self.skip = nn.Sequential(*([] if same else conv_bn(inputs, outputs, 1, stride)))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y: Tensor = self.relu(self.gates(self.body(x)) + self.skip(x))
        return y


class AttentionResNet(nn.Module):
    """float32 [N, 3, 224, 224] to float32 logits [N, 1000]; 11,777,336 parameters, 87,824 of them in the gates."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1))
        widths = (64, 64, 64, 128, 128, 256, 256, 512, 512)
        self.blocks = nn.Sequential(*(Block(a, b, 1 if a == b else 2) for a, b in pairwise(widths)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], classes)

    def residual_norms(self) -> list[nn.Module]:
        """List the normalizations whose output is gated and added to a skip connection."""
        return [block.body[-1] for block in self.blocks if isinstance(block, Block)]

    def gate_layers(self) -> list[nn.Module]:
        """List the convolutions whose output becomes a gate."""
        channels = [module.expand for module in self.modules() if isinstance(module, ChannelGate)]
        return [*channels, *(module.conv for module in self.modules() if isinstance(module, SpatialGate))]

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.classifier(self.pool(self.blocks(self.stem(image))).flatten(1))
        return logits
