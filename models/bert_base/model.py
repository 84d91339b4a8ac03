"""BERT encoder, and BERT-base with a head for two classes.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"
(2018), https://arxiv.org/abs/1810.04805, with the layer of Vaswani et al., "Attention Is All You Need" (2017),
https://arxiv.org/abs/1706.03762: a normalization after each residual sum. Attention is written out as matrix products,
softmax and an additive mask of -1e4, which is how BERT commonly arrives in ONNX files.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

VOCABULARY = 30_522
POSITIONS = 512
MASKED = -1e4
"""What is added to the attention logits of padding."""


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(hidden, hidden) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from every position to every other.

        Args:
            x: float32 [batch, sequence, hidden].
            mask: float32 [batch, 1, 1, sequence], added to the logits of each key.

        Returns:
            float32 [batch, sequence, hidden].
        """
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        logits = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])
        if mask is not None:
            logits = logits + mask
        y: Tensor = self.output(torch.matmul(logits.softmax(-1), value).transpose(1, 2).flatten(2))
        return y


class FeedForward(nn.Sequential):
    """Two linear layers with GELU between them, on each position alone."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__(nn.Linear(hidden, inner), nn.GELU(), nn.Linear(inner, hidden))


class Layer(nn.Module):
    """Attention and feed-forward network, each followed by the residual sum and its normalization."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.attention_norm = nn.LayerNorm(hidden, eps=1e-12)
        self.feed_forward = FeedForward(hidden, 4 * hidden)
        self.feed_forward_norm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[batch, sequence, hidden] to the same."""
        x = self.attention_norm(x + self.attention(x, mask))
        y: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return y


class Encoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, hidden: int, heads: int, depth: int) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, hidden)
        self.positions = nn.Embedding(POSITIONS, hidden)
        self.segments = nn.Embedding(2, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.layers = nn.ModuleList([Layer(hidden, heads) for _ in range(depth)])
        self.register_buffer("position_ids", torch.arange(POSITIONS)[None], persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Encode sequences.

        Args:
            input_ids: int64 [batch, sequence], below `VOCABULARY`; at most `POSITIONS` long.
            attention_mask: int64 [batch, sequence], 1 for a token and 0 for padding.
            token_type_ids: int64 [batch, sequence], 0 for the first sentence and 1 for the second.

        Returns:
            float32 [batch, sequence, hidden].
        """
        positions = self.get_buffer("position_ids")[:, : input_ids.shape[1]]
        x: Tensor = self.norm(self.words(input_ids) + self.segments(token_type_ids) + self.positions(positions))
        mask = (1.0 - attention_mask[:, None, None, :].float()) * MASKED
        for layer in self.layers:
            x = layer(x, mask)
        return x


class BertBase(nn.Module):
    """Token ids, mask and segments, int64 [N, sequence] each, to float32 logits [N, 2]; 109,483,778 parameters."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.encoder = Encoder(hidden=768, heads=12, depth=12)
        self.pooler = nn.Linear(768, 768)
        self.classifier = nn.Linear(768, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits of the classes, from the hidden state of the first token."""
        hidden = self.encoder(input_ids, attention_mask, token_type_ids)
        logits: Tensor = self.classifier(torch.tanh(self.pooler(hidden[:, 0])))
        return logits
