"""ResNet-50.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2015), https://arxiv.org/abs/1512.03385, table 1.
The "v1.5" variant: a bottleneck that halves the resolution does so in its 3x3 convolution, not in its first 1x1.
"""

from __future__ import annotations

from torch import Tensor, nn

EXPANSION = 4


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return a convolution without bias, "same" padding, and its batch normalization."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a skip connection, projected by a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.body = nn.Sequential(
            *conv_bn(inputs, width, 1),
            nn.ReLU(inplace=True),
            *conv_bn(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *conv_bn(width, outputs, 1),
        )
        same = inputs == outputs and stride == 1
        self.skip = nn.Sequential(*([] if same else conv_bn(inputs, outputs, 1, stride)))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, 4 * width, H / stride, W / stride]."""
        y: Tensor = self.relu(self.body(x) + self.skip(x))
        return y


class ResNet50(nn.Module):
    """float32 [N, 3, 224, 224] to float32 logits [N, 1000]; 25,557,032 parameters."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1))
        blocks: list[nn.Module] = []
        channels = 64
        for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for index in range(depth):
                blocks.append(Bottleneck(channels, width, stride if index == 0 else 1))
                channels = width * EXPANSION
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def residual_norms(self) -> list[nn.Module]:
        """List the normalizations whose output is added to a skip connection."""
        return [block.body[-1] for block in self.blocks if isinstance(block, Bottleneck)]

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.classifier(self.pool(self.blocks(self.stem(image))).flatten(1))
        return logits
