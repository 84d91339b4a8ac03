"""Sensitivity: how much each INT8 node costs, measured by what its return to float gains.

A gain has a price: weights that are four times as large again. A small layer that gains half as much as one of a
hundred times its size is the better choice, so gains are ranked by the byte. That is so among gains that count: many
layers that gain next to nothing would cost the tries that the one to blame needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from dsedge.data import Batch
from dsedge.verify import predictor, run_all, sqnr_by_output

LEAST_SHARE = 0.1
"""Of the greatest gain: what gains less comes behind, whatever it costs."""


def rank(
    nodes: Sequence[str],
    without: Callable[[str], ir.Model],
    model: ir.Model,
    samples: Sequence[Batch],
    *,
    quantized: ir.Model,
    prices: Mapping[str, int],
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The nodes, the one whose return to float gains the most for its price first.

    Args:
        nodes: names of INT8 nodes.
        without: makes the Q/DQ graph in which one node is float and all others are as they are.
        model: the float model.
        samples: a few calibration samples.
        quantized: the Q/DQ graph in which none of them is float.
        prices: node -> bytes of its weights in float.
        progress: called with how many nodes are done, and how many there are.

    Returns:
        The names, ordered by how much the noise of the worst output falls (its power, as a share of the signal's) for
        each byte; behind them those that gain little, ordered by what they gain.
    """
    reference = run_all(predictor(model), samples)

    def noise(graph: ir.Model) -> float:
        ratios = sqnr_by_output(reference, run_all(predictor(graph), samples))
        return max((10 ** (-ratio / 10) for ratio in ratios if ratio is not None), default=0.0)

    before = noise(quantized)
    gained: dict[str, float] = {}
    for done, name in enumerate(nodes):
        gained[name] = before - noise(without(name))
        if progress:
            progress(done + 1, len(nodes))
    least = LEAST_SHARE * max(gained.values(), default=0.0)

    def worth(name: str) -> tuple[bool, float]:
        gain = gained[name]
        return (True, gain / max(prices[name], 1)) if 0 < least <= gain else (False, gain)

    return sorted(nodes, key=worth, reverse=True)
