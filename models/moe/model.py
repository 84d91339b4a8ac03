"""A sparsely gated mixture of experts, in place of a transformer's feed-forward network.

Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer" (2017),
https://arxiv.org/abs/1701.06538, without noise; the weights of the two chosen experts are a softmax over the two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.bert_base.model import FeedForward


class Expert(nn.Module):
    """A feed-forward network."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.feed_forward = FeedForward(hidden, inner)

    def forward(self, x: Tensor) -> Tensor:
        """[N, tokens, hidden] to the same."""
        y: Tensor = self.feed_forward(x)
        return y


class MixtureOfExperts(nn.Module):
    """float32 tokens [N, 16, 64] to the same, each token by the two best of four experts; 132,740 parameters.

    All experts compute all tokens, and the gate weighs most of it with 0: no control flow, and static shapes.
    """

    def __init__(self, hidden: int = 64, inner: int = 256, experts: int = 4, chosen: int = 2) -> None:
        super().__init__()
        self.chosen = chosen
        self.norm = nn.LayerNorm(hidden)
        self.gate = nn.Linear(hidden, experts)
        self.experts = nn.ModuleList([Expert(hidden, inner) for _ in range(experts)])

    def forward(self, tokens: Tensor) -> Tensor:
        """Residual sum of the tokens and what their experts make of them."""
        x = self.norm(tokens)
        best, index = self.gate(x).topk(self.chosen, dim=-1)
        weights = torch.zeros_like(x[..., : len(self.experts)]).scatter(-1, index, best.softmax(-1))
        for number, expert in enumerate(self.experts):
            tokens = tokens + self.weigh(expert, x, weights[..., number : number + 1])
        return tokens

    def weigh(self, expert: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
        """Output of one expert times its weight for each token, [N, tokens, 1]."""
        y: Tensor = expert(x) * weight
        return y


class ConditionalExperts(MixtureOfExperts):
    """The same with control flow: an expert that no token chose is skipped, by ONNX's If."""

    def weigh(self, expert: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
        """Output of one expert times its weight for each token, [N, tokens, 1]; zeros if all weights are 0."""
        y: Tensor = torch.cond(
            (weight > 0).any(),
            lambda x, weight: expert(x) * weight,
            lambda x, weight: x * 0.0 + weight * 0.0,
            (x, weight),
        )
        return y
