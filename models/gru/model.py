"""A keyword spotter of two layers of gated recurrent units, for whole sounds or frame by frame.

Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation" (2014),
https://arxiv.org/abs/1406.1078, with the reset gate after the recurrent product (the cell that torch implements, ONNX's
`linear_before_reset=1`); as a keyword spotter: Zhang et al., "Hello Edge" (2017), https://arxiv.org/abs/1711.07128.
"""

from __future__ import annotations

from torch import Tensor, nn


class KeywordGRU(nn.Module):
    """float32 log-mel energies [N, frames, 40] (layout NTC) to float32 logits [N, 12]; 165,900 parameters."""

    def __init__(self, features: int = 40, hidden: int = 128, classes: int = 12) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden, num_layers=2, batch_first=True)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Logits of the classes after the last frame."""
        hidden, _ = self.gru(log_mel)
        logits: Tensor = self.classifier(hidden[:, -1])
        return logits


class StreamingGRU(nn.Module):
    """The same network as a step of a stream: the caller keeps its state."""

    def __init__(self, whole: KeywordGRU) -> None:
        super().__init__()
        self.gru = whole.gru
        self.classifier = whole.classifier

    def forward(self, log_mel: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Continue from a state; begin with zeros.

        Args:
            log_mel: float32 [1, frames, 40], the next frames.
            state: float32 [2, 1, 128], the hidden state of each layer.

        Returns:
            Logits after the last frame, float32 [1, 12], and the next state.
        """
        hidden, state = self.gru(log_mel, state)
        return self.classifier(hidden[:, -1]), state
