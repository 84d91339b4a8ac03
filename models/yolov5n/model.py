"""YOLOv5n, release 6: a detector for 80 classes with its decode.

The network is described by its configuration, https://github.com/ultralytics/yolov5 (there is no paper): depth 0.33 and
width 0.25 of the full one. Its parts: cross-stage partial blocks (Wang et al. 2019, https://arxiv.org/abs/1911.11929),
spatial pyramid pooling (He et al. 2014, https://arxiv.org/abs/1406.4729), path aggregation (Liu et al. 2018,
https://arxiv.org/abs/1803.01534).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 80
STRIDES = (8, 16, 32)
ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))
"""Width and height in pixels of the three anchors of each stride."""


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias, its batch normalization and SiLU; a stride of 2 halves even sizes."""
    padding = 2 if kernel == 6 else kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=1e-3), nn.SiLU(inplace=True))


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolutions, with a skip connection where asked for."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(channels, channels, 1), conv_bn(channels, channels, 3))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W], shape kept."""
        y: Tensor = self.body(x)
        return x + y if self.residual else y


class CrossStage(nn.Module):
    """Half of the channels go through bottlenecks, half around them; both are merged by a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, depth: int, residual: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.body = nn.Sequential(conv_bn(inputs, half, 1), *(Bottleneck(half, residual) for _ in range(depth)))
        self.around = conv_bn(inputs, half, 1)
        self.merge = conv_bn(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H, W]."""
        y: Tensor = self.merge(torch.cat([self.body(x), self.around(x)], 1))
        return y


class PyramidPooling(nn.Module):
    """Max pools of 5, 9 and 13 pixels, made of three pools of 5 in a row, beside their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = conv_bn(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, padding=2)
        self.merge = conv_bn(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W], shape kept."""
        levels = [self.reduce(x)]
        for _ in range(3):
            levels.append(self.pool(levels[-1]))
        y: Tensor = self.merge(torch.cat(levels, 1))
        return y


class YOLOv5n(nn.Module):
    """float32 [1, 3, size, size] in 0..1 to float32 predictions [1, 63 * (size / 32)^2, 85]; 1,872,157 parameters.

    A prediction is the box's center, width and height in pixels, the objectness, and the 80 class probabilities given
    that there is an object. The cells' offsets and the anchors are constants, so that an instance has one input size.
    """

    def __init__(self, size: int = 320) -> None:
        super().__init__()
        if size % STRIDES[-1]:
            raise ValueError(f"the size {size} is not a multiple of {STRIDES[-1]}")
        self.to_p3 = nn.Sequential(
            conv_bn(3, 16, 6, 2),
            conv_bn(16, 32, 3, 2),
            CrossStage(32, 32, 1, residual=True),
            conv_bn(32, 64, 3, 2),
            CrossStage(64, 64, 2, residual=True),
        )
        self.to_p4 = nn.Sequential(conv_bn(64, 128, 3, 2), CrossStage(128, 128, 3, residual=True))
        self.to_p5 = nn.Sequential(
            conv_bn(128, 256, 3, 2), CrossStage(256, 256, 1, residual=True), PyramidPooling(256), conv_bn(256, 128, 1)
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.top_down4 = nn.Sequential(CrossStage(256, 128, 1, residual=False), conv_bn(128, 64, 1))
        self.top_down3 = CrossStage(128, 64, 1, residual=False)
        self.down3 = conv_bn(64, 64, 3, 2)
        self.bottom_up4 = CrossStage(128, 128, 1, residual=False)
        self.down4 = conv_bn(128, 128, 3, 2)
        self.bottom_up5 = CrossStage(256, 256, 1, residual=False)
        self.heads = nn.ModuleList(nn.Conv2d(channels, 3 * (5 + CLASSES), 1) for channels in (64, 128, 256))
        for level, (stride, anchors) in enumerate(zip(STRIDES, ANCHORS, strict=True)):
            cells = torch.arange(size // stride, dtype=torch.float32)
            y, x = torch.meshgrid(cells, cells, indexing="ij")
            shape = (1, 3, *x.shape, 2)
            grid = torch.stack([x, y], 2).expand(shape) - 0.5
            self.register_buffer(f"grid{level}", grid.contiguous(), persistent=False)
            sizes = torch.tensor(anchors, dtype=torch.float32).view(1, 3, 1, 1, 2).expand(shape)
            self.register_buffer(f"anchors{level}", sizes.contiguous(), persistent=False)

    def features(self, image: Tensor) -> list[Tensor]:
        """What the heads see: [N, 64, size / 8, size / 8], [N, 128, size / 16, ...], [N, 256, size / 32, ...]."""
        p3 = self.to_p3(image)
        p4 = self.to_p4(p3)
        top5 = self.to_p5(p4)
        top4 = self.top_down4(torch.cat([self.upsample(top5), p4], 1))
        out3 = self.top_down3(torch.cat([self.upsample(top4), p3], 1))
        out4 = self.bottom_up4(torch.cat([self.down3(out3), top4], 1))
        out5 = self.bottom_up5(torch.cat([self.down4(out4), top5], 1))
        return [out3, out4, out5]

    def decode(self, raw: Tensor, level: int) -> Tensor:
        """Turn a head's output [N, 255, H, W] into predictions [N, 3 * H * W, 85]."""
        batch, _, height, width = raw.shape
        cells = raw.view(batch, 3, 5 + CLASSES, height, width).permute(0, 1, 3, 4, 2)
        center, size, scores = torch.split(cells.sigmoid(), [2, 2, 1 + CLASSES], 4)
        center = (center * 2 + self.get_buffer(f"grid{level}")) * STRIDES[level]
        size = (size * 2) ** 2 * self.get_buffer(f"anchors{level}")
        return torch.cat([center, size, scores], 4).view(batch, -1, 5 + CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Decoded predictions of all cells, the finest level first."""
        raws = [head(x) for head, x in zip(self.heads, self.features(image), strict=True)]
        return torch.cat([self.decode(raw, level) for level, raw in enumerate(raws)], 1)
