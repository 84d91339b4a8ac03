"""ESPCN: super-resolution three times by three, computed at the low resolution.

Shi, Caballero, Huszar, Totz, Aitken, Bishop, Rueckert, Wang, "Real-Time Single Image and Video Super-Resolution Using
an Efficient Sub-Pixel Convolutional Neural Network" (2016), https://arxiv.org/abs/1609.05158, section 3, with ReLU in
place of tanh. The residual variant adds the image, enlarged, to what the network computes (Kim, Lee, Lee, 2016,
https://arxiv.org/abs/1511.04587).
"""

from __future__ import annotations

from torch import Tensor, nn

SCALE = 3


class ESPCN(nn.Module):
    """Luma float32 [N, 1, H, W] in 0..1 to float32 [N, 1, 3 H, 3 W]; 22,729 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 64, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, SCALE**2, 3, padding=1),
            nn.PixelShuffle(SCALE),
        )

    def forward(self, image: Tensor) -> Tensor:
        """The image at three times the resolution."""
        enlarged: Tensor = self.body(image)
        return enlarged


class ResidualESPCN(ESPCN):
    """`ESPCN` that computes the difference from the image with every pixel repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.repeat = nn.Upsample(scale_factor=SCALE, mode="nearest")

    def forward(self, image: Tensor) -> Tensor:
        """The image at three times the resolution."""
        enlarged: Tensor = self.repeat(image) + self.body(image)
        return enlarged
