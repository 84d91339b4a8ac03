"""A small residual network of 3-D convolutions that classifies clips.

After R3D (Tran, Wang, Torresani, Ray, LeCun, Paluri, "A Closer Look at Spatiotemporal Convolutions for Action
Recognition", 2018, https://arxiv.org/abs/1711.11248), with one block a stage instead of two, a quarter of its channels,
and a max pool behind the stem as in C3D (Tran et al. 2015, https://arxiv.org/abs/1412.0767).
"""

from __future__ import annotations

from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return a 3-D convolution without bias, "same" padding, and its batch normalization."""
    conv = nn.Conv3d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm3d(outputs)]


class Block(nn.Module):
    """Two 3x3x3 convolutions and a skip connection, projected by a 1x1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = [*conv_bn(inputs, outputs, 3, stride), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*first, *conv_bn(outputs, outputs, 3))
        same = inputs == outputs and stride == 1
        self.skip = nn.Sequential(*([] if same else conv_bn(inputs, outputs, 1, stride)))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, T, H, W] to [N, outputs, T / stride, H / stride, W / stride]."""
        y: Tensor = self.relu(self.body(x) + self.skip(x))
        return y


class Conv3dNet(nn.Module):
    """float32 [N, 3, 16, 112, 112] (colours, frames, ...) to float32 logits [N, 400]; 955,584 parameters."""

    def __init__(self, classes: int = 400) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 16, (3, 7, 7), (1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(16),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1)),
        )
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2), Block(64, 128, 2))
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.classifier = nn.Linear(128, classes)

    def residual_norms(self) -> list[nn.Module]:
        """List the normalizations whose output is added to a skip connection."""
        return [block.body[-1] for block in self.blocks if isinstance(block, Block)]

    def forward(self, clip: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.classifier(self.pool(self.blocks(self.stem(clip))).flatten(1))
        return logits
