"""A sentence encoder of the size of MiniLM-L6-H384.

Wang, Wei, Dong, Bao, Yang, Zhou, "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
Pre-Trained Transformers" (2020), https://arxiv.org/abs/2002.10957, with the mean pooling of Reimers, Gurevych,
"Sentence-BERT" (2019), https://arxiv.org/abs/1908.10084.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.bert_base.model import Encoder


class MiniLM(nn.Module):
    """Token ids, mask and segments, int64 [N, sequence] each, to sentence embeddings; 22,565,376 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(hidden=384, heads=12, depth=6)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states, float32 [N, sequence, 384], and their mean over tokens at unit length, float32 [N, 384]."""
        hidden = self.encoder(input_ids, attention_mask, token_type_ids)
        weights = attention_mask[:, :, None].float()
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return hidden, F.normalize(mean, dim=-1)
