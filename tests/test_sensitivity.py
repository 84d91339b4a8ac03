from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from flow import contract, quantized, samples, worst_sqnr
from graphs import Net, concat

from dsedge.model import Model
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.contract import Contract
from dsedge.quant.insert import insert
from dsedge.sensitivity import Gain, ranked, worst


def unread_channel() -> Model:
    """The middle convolution reads values of which one channel is a thousand times greater than the others."""
    net = Net(x=(1, 8, 8, 8))
    y = net.conv("x", 16, act="Relu")
    scale = np.ones((1, 16, 1, 1), np.float32)
    scale[0, 3] = 1000
    y = net.op("Abs", net.op("Mul", y, net.const(scale)))
    net.channels[y] = 16
    weight = net.weight(16, 16, 3, 3)
    array = net.weights[-1]
    values = np.frombuffer(array.raw_data, np.float32).reshape(16, 16, 3, 3).copy()
    values[:, 3] = 0  # the great channel does not matter, but its range does
    array.raw_data = values.tobytes()
    y = net.op("Abs", net.op("Conv", y, weight, net.weight(16)))
    net.channels[y] = 16
    return net.model(net.conv(y, 8))


@pytest.mark.parametrize("accepts", [contract("arm"), replace(contract("x86-vnni"), bias="float", inputs_only=True)])
@pytest.mark.parametrize("source", [unread_channel(), concat()], ids=["chain", "concat"])
def test_a_gain_is_that_of_the_graph_in_which_the_node_is_float(
    source: Model, accepts: Contract, tmp_path: Path
) -> None:
    made, batches = quantized(source, accepts), samples(source, 4)
    heavy = [node.name for node in made.plan.nodes.values() if node.weights]
    gain = Gain(
        made.plan,
        lambda names: annotate(made.graph.graph, accepts, lifted=dict.fromkeys(names, "measured")),
        made.graph,
        made.model,
        batches,
        tmp_path,
    )
    before = worst_sqnr(made.graph, made.model, batches)
    for names in (*((name,) for name in heavy), heavy[:2], heavy):
        left = worst_sqnr(made.graph, without(made.graph, accepts, names, source), batches)
        assert gain(*names) == pytest.approx(1 - 10 ** ((before - left) / 10), abs=0.02)
    assert gain(*heavy) == pytest.approx(1, abs=1e-3)


def without(graph: ir.Model, accepts: Contract, names: Sequence[str], source: Model) -> ir.Model:
    plan = annotate(graph.graph, accepts, lifted=dict.fromkeys(names, "measured"))
    computed = [value for value in plan.values if value not in graph.graph.initializers]
    observers, _ = calibrate(graph, computed, samples(source), "minmax")
    plan = assign_ranges(plan, graph.graph, accepts, observers, "minmax")
    return insert(graph, plan, accepts)


def test_what_gains_little_comes_last_whatever_it_costs() -> None:
    gained = {"a": 0.01, "b": 0.5, "c": 0.2, "d": -0.1}
    assert ranked(gained, {"a": 1, "b": 10**6, "c": 10, "d": 1}) == ["c", "b", "a", "d"]
    assert ranked({"a": -1.0, "b": 0.0}, {"a": 1, "b": 1}) == ["b", "a"]


@pytest.mark.parametrize(
    ("goal", "most", "chosen"), [(0.1, 4, "a"), (0.45, 4, "ab"), (0.75, 4, "abc"), (0.9, 4, "abcd"), (0.9, 2, "ab")]
)
def test_as_many_are_taken_as_reach_the_goal(goal: float, most: int, chosen: str) -> None:
    """Together a, b and c gain more than one by one."""
    alone = {"a": 0.3, "b": 0.2, "c": 0.1, "d": 0.01}
    told: list[tuple[int, int]] = []

    def gain(*nodes: str) -> float:
        return sum(alone[node] for node in nodes) + 0.2 * (set("abc") <= set(nodes))

    found = worst(
        "dcba",
        gain,
        prices=dict.fromkeys("abcd", 1),
        goal=goal,
        most=most,
        progress=lambda done, total: told.append((done, total)),
    )
    assert found == list(chosen)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
