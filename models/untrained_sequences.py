"""Transformers without trained weights, made numerically close to trained ones, and token ids to run them on.

A freshly initialized transformer quantizes far better than a trained one, and ranks methods in another order: all its
hidden channels have similar ranges, attention is nearly uniform and weights have no tails. What trained encoders have
instead (Kovaleva et al., "BERT Busters: Outlier Dimensions that Disrupt Transformers", 2021; Bondarenko, Nagel,
Blankevoort, "Understanding and Overcoming the Challenges of Efficient Transformer Quantization", 2021; Dettmers et al.,
"LLM.int8()", 2022), and what `settle` gives these:

- outlier channels: the same few hidden channels exceed the others many times over in every layer, because the
  normalizations scale and shift them more, and the residual branches write more into them;
- scales of the other normalization channels are log-normal, offsets normal;
- weights have heavy tails (Student's t) and rows of unequal size (log-normal);
- attention is selective, and most of the inner units of a feed-forward network are off for most tokens;
- residual branches are weaker than what they are added to.

The scales come from one pass over sample inputs, in which each layer is rescaled as it is reached, so that the next
sees what it will see (layer-sequential variance: Mishkin, Matas, "All you need is a good init", 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.bert_base.model import VOCABULARY
from models.export import dynamic_export_command

SEED = 2021
PAD, CLS, SEP, FIRST_WORD = 0, 101, 102, 1996
"""Ids in the vocabulary of uncased BERT, whose words are sorted by frequency from `FIRST_WORD` ("the") on."""

OUTLIER_SHARE = 1 / 64
OUTLIER_OFFSETS = (4.0, 18.0)
OUTLIER_SPREAD = 2.0
"""Outlier channels: their share, the range of their offsets, and their standard deviation over tokens and the gain of
the rows that write into them; in units of the other channels."""
TAILS = 10.0
"""Degrees of freedom of the weights' distribution."""

# Standard deviation over tokens of a linear layer's output, median of its channels, and the mean and the standard
# deviation of its offsets.
QUERY_KEY, VALUE, INNER, BRANCH = (1.1, 0.0, 0.5), (0.7, 0.0, 0.1), (0.8, -0.8, 0.5), (0.3, 0.0, 0.1)
EMBEDDINGS = {"words": 1.0, "positions": 0.4, "segments": 0.2}
GATE = (2.0, 0.0, 0.5)
ROLES = {"query": QUERY_KEY, "key": QUERY_KEY, "value": VALUE, "feed_forward.0": INNER, "gate": GATE}


def token_batches(count: int, seq: int, seed: int, shortest: int = 8) -> dict[str, NDArray[np.int64]]:
    """Draw sequences of token ids that are distributed as those of text.

    Words follow Zipf's law, p(rank) ~ 1 / rank. Half of them keep their rank everywhere; the others are ranked
    anew for each sequence, as its topic. Lengths are uniform; half of the sequences are pairs of sentences.

    Args:
        count: how many sequences.
        seq: their length with [CLS], [SEP] and padding; at least `shortest`.
        seed: the same seed draws the same sequences.
        shortest: least length without padding, 5 or more; `seq` for no padding.

    Returns:
        `input_ids`, `attention_mask` and `token_type_ids`, int64 [count, seq].
    """
    rng = np.random.default_rng(seed)
    words = VOCABULARY - FIRST_WORD
    odds = 1 / np.arange(1, words + 1)
    rank = np.searchsorted(np.cumsum(odds) / odds.sum(), rng.random((count, seq)))
    topic = rng.integers(words, size=(count, 1)), rng.integers(words, size=(count, 1))
    rank = np.where(rng.random((count, seq)) < 0.5, rank, (rank * (2 * topic[0] + 1) + topic[1]) % words)

    position = np.arange(seq)
    length = rng.integers(shortest, seq + 1, size=(count, 1))
    middle = np.where(rng.random((count, 1)) < 0.5, rng.integers(2, length - 2), length)  # [SEP] of the first sentence
    ids = np.select(
        [position >= length, position == 0, (position == middle) | (position == length - 1)],
        [PAD, CLS, SEP],
        FIRST_WORD + rank,
    )
    mask = position < length
    columns = {"input_ids": ids, "attention_mask": mask, "token_type_ids": mask & (position > middle)}
    return {name: column.astype(np.int64) for name, column in columns.items()}


def build_encoder(architecture: Callable[[], nn.Module]) -> nn.Module:
    """Return a seeded instance of an encoder of token ids in evaluation mode, settled on 8 sequences of 64 tokens."""
    torch.manual_seed(SEED)
    module = architecture()
    tokens = token_batches(8, 64, SEED, shortest=64)
    settle(module, tuple(torch.from_numpy(column) for column in tokens.values()))
    return module


def export_encoder(architecture: Callable[[], nn.Module], output_names: Sequence[str]) -> None:
    """Run the command line of an encoder's `export.py`."""
    dynamic_export_command(
        lambda: build_encoder(architecture),
        lambda batch, sequence: {k: torch.from_numpy(v) for k, v in token_batches(batch, sequence, seed=0).items()},
        output_names,
        lengths=(2, 64),
        dynamic_axes={name: {0: "batch", 1: "sequence"} for name in token_batches(1, 16, seed=0)},
    )


def settle(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Give a transformer weights like trained ones, in place, in one pass over inputs.

    Linear layers with a name in `ROLES` are set by it; those named `output` and `feed_forward.2` are ends of residual
    branches. The last normalization has no outlier channels, the others all have the same ones. Embeddings are normal,
    with the deviation in `EMBEDDINGS`. Everything else keeps its initialization.

    Args:
        module: a new module; it is put into evaluation mode.
        inputs: of the module; no padding, since every token counts.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, nn.LayerNorm)]
    hidden = norms[0].normalized_shape[0]
    channels = torch.randperm(hidden)[: round(hidden * OUTLIER_SHARE)]
    low, high = OUTLIER_OFFSETS
    offsets = low * (high / low) ** torch.linspace(0, 1, len(channels)) * torch.randn(len(channels)).sign()

    hooks = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.LayerNorm):
            last = layer is norms[-1]
            hook = _norm_hook(channels, torch.zeros_like(offsets), 1.0) if last else _norm_hook(channels, offsets)
            hooks.append(layer.register_forward_hook(hook))
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=EMBEDDINGS[name.rpartition(".")[2]])
        elif isinstance(layer, nn.Linear):
            role = next((target for suffix, target in ROLES.items() if name.endswith(suffix)), None)
            if role:
                hooks.append(layer.register_forward_hook(_linear_hook(role, channels[:0])))
            elif name.endswith((".output", "feed_forward.2")):
                hooks.append(layer.register_forward_hook(_linear_hook(BRANCH, channels)))
    module.eval()
    with torch.no_grad():
        module(*inputs)
    for handle in hooks:
        handle.remove()


Hook = Callable[[Any, Any, Tensor], Tensor]


def _linear_hook(target: tuple[float, float, float], outliers: Tensor) -> Hook:
    """Redraw a linear layer when its input is there, with larger rows for outlier channels."""
    spread, mean, deviation = target

    def hook(layer: nn.Linear, inputs: tuple[Tensor], _output: Tensor) -> Tensor:
        student = torch.distributions.StudentT(TAILS)
        layer.weight.copy_(student.sample(layer.weight.shape) * torch.randn(layer.out_features, 1).mul(0.25).exp())
        layer.weight[outliers] *= OUTLIER_SPREAD
        output = (inputs[0] @ layer.weight.T).flatten(0, -2)
        layer.weight *= spread / output.std(0).median()
        output = inputs[0] @ layer.weight.T
        layer.bias.copy_(torch.randn(layer.out_features) * deviation + mean - output.flatten(0, -2).mean(0))
        return output + layer.bias

    return hook


def _norm_hook(outliers: Tensor, offsets: Tensor, spread: float = OUTLIER_SPREAD) -> Hook:
    """Redraw a normalization when its input is there: channels of standard deviation near 1, except for outliers.

    Channels that are larger than others get a smaller scale, or else they would drift apart from layer to layer.
    """

    def hook(layer: nn.LayerNorm, _inputs: tuple[Tensor], output: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(output.flatten(0, -2), 0)
        layer.weight.normal_(0, 0.2).exp_().div_((deviation * deviation.median()).sqrt())
        layer.weight[outliers] = spread / deviation[outliers]
        layer.bias.normal_(0, 0.2).sub_(mean * layer.weight)
        layer.bias[outliers] += offsets
        return output * layer.weight + layer.bias

    return hook
