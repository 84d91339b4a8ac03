"""A small residual CNN for 8x8 gray images.

Residual blocks after He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2015),
https://arxiv.org/abs/1512.03385, section 3.
"""

from __future__ import annotations

from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias, "same" padding, and its batch normalization."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions and a skip connection, projected by a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(inputs, outputs, 3, stride), nn.ReLU(inplace=True), conv_bn(outputs, outputs, 3)
        )
        same = inputs == outputs and stride == 1
        self.skip: nn.Module = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y: Tensor = self.relu(self.body(x) + self.skip(x))
        return y


class DigitsCNN(nn.Module):
    """float32 [N, 1, 8, 8] in 0..1 to float32 logits [N, 10]; 95,850 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(1, 32, 3), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(Block(32, 32), Block(32, 32), Block(32, 64, stride=2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the ten digits."""
        logits: Tensor = self.classifier(self.pool(self.blocks(self.stem(image))).flatten(1))
        return logits
