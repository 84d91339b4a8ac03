"""Vision transformer, size tiny, patches of 16x16.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale" (2020),
https://arxiv.org/abs/2010.11929; the size from Touvron et al., "Training Data-Efficient Image Transformers" (2020),
https://arxiv.org/abs/2012.12877, table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.bert_base.model import Attention, FeedForward


class Block(nn.Module):
    """Attention and feed-forward network, each with a normalization before it and the residual sum after it."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden, eps=1e-6)
        self.attention = Attention(hidden, heads)
        self.feed_forward_norm = nn.LayerNorm(hidden, eps=1e-6)
        self.feed_forward = FeedForward(hidden, 4 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, sequence, hidden] to the same."""
        x = x + self.attention(self.attention_norm(x))
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return y


class ViTTiny(nn.Module):
    """float32 [N, 3, 224, 224] to float32 logits [N, 1000]; 5,717,416 parameters."""

    def __init__(self, classes: int = 1000, hidden: int = 192, heads: int = 3, depth: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, hidden, 16, 16)
        self.class_token = nn.Parameter(torch.randn(1, 1, hidden))
        self.positions = nn.Parameter(torch.randn(1, 1 + 14 * 14, hidden) * 0.4)
        self.blocks = nn.Sequential(*(Block(hidden, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(hidden, eps=1e-6)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the classes, from the class token."""
        patches = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.positions
        logits: Tensor = self.classifier(self.norm(self.blocks(x))[:, 0])
        return logits
