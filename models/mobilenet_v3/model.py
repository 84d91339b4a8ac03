"""MobileNetV3, large and small, width 1.0.

Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le, Adam, "Searching for MobileNetV3" (2019),
https://arxiv.org/abs/1905.02244, tables 1 and 2. Squeeze-and-excite: Hu, Shen, Albanie, Sun, Wu (2017),
https://arxiv.org/abs/1709.01507.
"""

from __future__ import annotations

from torch import Tensor, nn

# Kernel, expanded channels, output channels, squeeze-and-excite, hard swish (else ReLU), stride.
Row = tuple[int, int, int, bool, bool, int]
LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
NORM_EPSILON = 1e-3


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution without bias, "same" padding, and its batch normalization."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, eps=NORM_EPSILON)]


def divisible(channels: float) -> int:
    """Round to a multiple of 8, at least 8 and not below nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate in 0..1 that is computed from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = divisible(channels / 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W], shape kept."""
        y: Tensor = x * self.gate(x)
        return y


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, gate and linear 1x1 projection; a skip connection where the shape stays."""

    def __init__(self, inputs: int, row: Row) -> None:
        super().__init__()
        kernel, hidden, outputs, gated, swish, stride = row
        activation = nn.Hardswish if swish else nn.ReLU
        expand = [*conv_bn(inputs, hidden, 1), activation(inplace=True)] if hidden != inputs else []
        depthwise = [*conv_bn(hidden, hidden, kernel, stride, groups=hidden), activation(inplace=True)]
        gate = [SqueezeExcite(hidden)] if gated else []
        self.body = nn.Sequential(*expand, *depthwise, *gate, *conv_bn(hidden, outputs, 1))
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class MobileNetV3(nn.Module):
    """float32 [N, 3, 224, 224] to float32 logits [N, 1000]; 5,483,032 parameters, small 2,542,856."""

    def __init__(self, rows: tuple[Row, ...] = LARGE, hidden: int = 1280, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, 16, 3, 2), nn.Hardswish(inplace=True))
        channels = [16, *(row[2] for row in rows)]
        self.blocks = nn.Sequential(*(InvertedResidual(c, row) for c, row in zip(channels, rows, strict=False)))
        last = channels[-1] * 6
        self.head = nn.Sequential(*conv_bn(channels[-1], last, 1), nn.Hardswish(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(last, hidden), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(hidden, classes)
        )

    def residual_norms(self) -> list[nn.Module]:
        """List the normalizations whose output is added to a skip connection."""
        return [block.body[-1] for block in self.blocks if isinstance(block, InvertedResidual) and block.residual]

    def gate_layers(self) -> list[nn.Module]:
        """List the convolutions whose output becomes a gate."""
        return [m.gate[-2] for m in self.modules() if isinstance(m, SqueezeExcite)]

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.classifier(self.pool(self.head(self.blocks(self.stem(image)))).flatten(1))
        return logits


def mobilenet_v3_large() -> MobileNetV3:
    """Table 1 of the paper; 5,483,032 parameters."""
    return MobileNetV3(LARGE, 1280)


def mobilenet_v3_small() -> MobileNetV3:
    """Table 2 of the paper; 2,542,856 parameters."""
    return MobileNetV3(SMALL, 1024)
