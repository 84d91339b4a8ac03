"""An LSTM over a card's latest transactions.

Hochreiter, Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, with the forget gate of Gers,
Schmidhuber, Cummins, "Learning to Forget", 2000 (the cell that torch and ONNX implement).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FraudLSTM(nn.Module):
    """float32 [N, 32, 24] (layout NTC) to float32 fraud probability [N, 1]; 87,169 parameters."""

    def __init__(self, features: int = 24, hidden: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 64), nn.ReLU(inplace=True), nn.Linear(64, 1))

    def forward(self, transactions: Tensor) -> Tensor:
        """Probability that the last transaction of each sequence is fraudulent."""
        _, (last_hidden, _) = self.lstm(transactions)
        return torch.sigmoid(self.head(last_hidden[0]))
