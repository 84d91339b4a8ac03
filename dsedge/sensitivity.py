"""Sensitivity: how much INT8 nodes cost, measured by what their return to float gains.

A gain has a price: weights that are four times as large again. A small layer that gains half as much as one of a
hundred times its size is the better choice, so gains are ranked by the byte. That is so among gains that count: many
layers that gain next to nothing would cost the tries that the one to blame needs.

Gains do not add up: the values between two layers stay codes until both are float. So nodes are taken one by one, and
behind each of them the gains of those are measured again that now free other edges than before.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import onnx_ir as ir

from dsedge.backends.base import Predict
from dsedge.data import Batch
from dsedge.quant.plan import QuantPlan
from dsedge.quant.switch import Edge, quantized_edges, with_reals
from dsedge.verify import predictor, run_all, sqnr_by_output

LEAST_SHARE = 0.1
"""Of the greatest gain: what gains less comes behind, whatever it costs."""
WORKERS = 4
"""Graphs that are run at once, each on a core: more would take memory."""


class Gain:
    """The share of the noise that is gone when some nodes are float and all others are as they are.

    The noise is that of the worst output: its power, as a share of the signal's. Quantizers that the nodes' plan does
    without are taken out of the Q/DQ graph: ranges stay as they are, and no value gets a new quantizer.
    """

    def __init__(
        self,
        plan: QuantPlan,
        without: Callable[[Sequence[str]], QuantPlan],
        model: ir.Model,
        quantized: ir.Model,
        samples: Sequence[Batch],
        folder: Path,
    ) -> None:
        """Write the graph's weights, those in float beside those in INT8, once for all that is measured.

        Args:
            plan: which the Q/DQ graph was made by.
            without: gives the plan, without ranges, in which nodes are float.
            model: the float model.
            quantized: the Q/DQ graph in which none of them is float.
            samples: a few calibration samples.
            folder: for the graphs.
        """
        self._without, self._graph, self._samples = without, model.graph, samples
        self._folder = folder
        self._edges = quantized_edges(model.graph, plan)
        both, self._reals = with_reals(quantized, model, self._edges)
        ir.save(both, folder / "model.onnx", external_data="weights")
        self._proto = onnx.load(folder / "model.onnx", load_external_data=False)
        self._reference = run_all(predictor(model), samples)
        self._before = self._noise(set())

    def __call__(self, *nodes: str) -> float:
        """From below 0, where the noise grows, to 1; 0 when there is no noise."""
        return 1 - self._noise(self.freed(*nodes)) / self._before if self._before else 0.0

    def freed(self, *nodes: str) -> set[Edge]:
        """The edges that carry real numbers then."""
        return self._edges - quantized_edges(self._graph, self._without(nodes))

    def _noise(self, freed: set[Edge]) -> float:
        ratios = sqnr_by_output(self._reference, run_all(self._predictor(freed), self._samples))
        return max((10 ** (-ratio / 10) for ratio in ratios if ratio is not None), default=0.0)

    def _predictor(self, freed: set[Edge]) -> Predict:
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        nodes = {node.name: node for node in proto.graph.node}
        for name, index in freed:
            if name:
                nodes[name].input[index] = self._reals[name, index]
            else:
                proto.graph.output[index].name = self._reals[name, index]
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".onnx") as file:
            file.write(proto.SerializeToString())
            file.flush()
            return predictor(Path(file.name), threads=1)


def worst(
    nodes: Sequence[str],
    gain: Gain,
    *,
    prices: Mapping[str, int],
    goal: float,
    most: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The nodes whose return to float gains the most for its price: as many as reach a goal.

    Args:
        nodes: names of INT8 nodes, one at least.
        gain: measures what some of them gain together.
        prices: node -> bytes of its weights in float.
        goal: share of the noise that is to go.
        most: how many nodes are taken where fewer do not reach the goal, one at least.
        progress: called with how many nodes are measured, and how many there are.
    """
    gained: dict[str, float] = {}
    chosen: list[str] = []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, WORKERS)) as pool:
        for name, share in zip(nodes, pool.map(gain, nodes), strict=True):
            gained[name] = share
            if progress:
                progress(len(gained), len(nodes))
        own = {name: gain.freed(name) for name in nodes}
        while gained:
            best = ranked(gained, prices)[0]
            del gained[best]
            chosen.append(best)
            reached = gain(*chosen)
            if reached >= goal or len(chosen) >= most:
                break
            free = gain.freed(*chosen)
            before, own = own, {name: gain.freed(*chosen, name) - free for name in gained}
            again = [name for name in gained if own[name] != before[name]]
            for name, share in zip(again, pool.map(lambda name: gain(*chosen, name), again), strict=True):
                gained[name] = share - reached
    return chosen


def ranked(gained: Mapping[str, float], prices: Mapping[str, int]) -> list[str]:
    """Nodes by what they gain for their price; behind them those that gain little, ordered by what they gain.

    Args:
        gained: node -> the share of the noise that goes with it.
        prices: node -> bytes of its weights in float.
    """
    least = LEAST_SHARE * max(gained.values(), default=0.0)

    def worth(name: str) -> tuple[bool, float]:
        gain = gained[name]
        return (True, gain / max(prices[name], 1)) if 0 < least <= gain else (False, gain)

    return sorted(gained, key=worth, reverse=True)
