"""float16: the strongly typed graph beside the float32 one, and whether it is good enough."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from dsedge.backends.tensorrt.graphs import TYPED, Nearness, compare, float_ranges, typed_graph
from dsedge.backends.tensorrt.typed import HALF
from dsedge.bench.runner import agrees
from dsedge.data import Batch
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import ASKED_FLOAT32
from dsedge.report.text import counted
from dsedge.verify import GOLDEN_SAMPLES

_GOOD_DB, _MARGIN_DB = 40.0, 3.0
"""What is good enough for float16 itself, and how much rounding to it may take from a graph that is worse."""


@dataclass(frozen=True)
class Half:
    """What float16 makes of a graph.

    Attributes:
        graph: strongly typed.
        kept: node -> why it stays in float32.
        near: to the float graph.
        good: whether it is as near as the graph in float32, or near enough.
        said: how near both are, in words.
    """

    graph: ir.Model
    kept: Mapping[str, str]
    near: Nearness
    good: bool
    said: str


def in_half(graph: ir.Model, floats: ir.Model, samples: Sequence[Batch], asked: Mapping[str, str]) -> Half:
    """Write a graph in float16, and run it beside that in float32.

    Args:
        graph: float or Q/DQ, in float32.
        floats: the float graph, which both are compared with.
        samples: all give the ranges, the golden ones among them are compared.
        asked: node -> reason, for nodes that are to stay in float32.
    """
    typed, kept = typed_graph(graph, ranges=float_ranges(graph, samples), kept=asked)
    few = samples[:GOLDEN_SAMPLES]
    wanted, got = compare(floats, [graph, typed], few)
    good = got.decibel >= min(wanted.decibel, _GOOD_DB) - _MARGIN_DB and agrees([got.equal], [wanted.equal])
    said = f"{got} the float model on {counted(len(few), 'sample')}, where the float32 graph is {wanted} it"
    return Half(typed, kept, got, good, said)


def sentence(half: Half, *, typed: bool) -> str:
    """A note on it; `typed` says whether the target reads strongly typed graphs."""
    if not half.good:
        what = f"there is no {TYPED[HALF]}, for TensorRT 10 and 11" if typed else "nothing is computed in float16"
        return f"{what}: in float16 it would be {half.said}"
    what = f"{TYPED[HALF]}, for TensorRT 10 and 11," if typed else "float16, in which the engine computes,"
    kept = f"; {len(half.kept)} of its nodes stay in float32" if half.kept else ""
    return f"{what} was run on onnxruntime too: {half.said}{kept}"


def asked_float32(plan: QuantPlan) -> dict[str, str]:
    """The nodes that the user wants in float32, which is not how the rest of an engine computes."""
    return {node.name: node.reason for node in plan.nodes.values() if node.reason.startswith(ASKED_FLOAT32)}


def named_after(names: Collection[str], graph: ir.Model) -> list[str]:
    """Nodes of those names in the float32 graph, and those that one was written out as (`opset17.py`)."""
    found = [node.name or "" for node in graph.graph]
    return [name for name in found if any(name == kept or name.startswith(f"{kept}_") for kept in names)]
