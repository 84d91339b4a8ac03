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


class Scripted:
    """Gains of four nodes, of which c and d are worth most together: an edge between them is freed by both."""

    def __init__(self) -> None:
        self.measured: list[str] = []

    def __call__(self, *nodes: str) -> float:
        self.measured.append("".join(nodes))
        alone = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.02}
        return sum(alone[node] for node in nodes) + 0.25 * (set("cd") <= set(nodes))

    def freed(self, *nodes: str) -> set[tuple[str, int]]:
        return {(node, 1) for node in nodes} | ({("d", 0)} if set("cd") <= set(nodes) else set())


@pytest.mark.parametrize(
    ("goal", "most", "chosen"), [(0.1, 4, "c"), (0.5, 4, "cd"), (0.7, 4, "cdb"), (0.9, 4, "cdba"), (0.9, 2, "cd")]
)
def test_as_many_are_taken_as_reach_the_goal(goal: float, most: int, chosen: str) -> None:
    gain, told = Scripted(), []
    found = worst(
        "abcd",
        gain,
        prices=dict.fromkeys("abcd", 1),
        goal=goal,
        most=most,
        progress=lambda done, total: told.append((done, total)),
    )
    assert found == list(chosen)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_only_gains_that_a_choice_changes_are_measured_again() -> None:
    gain = Scripted()
    worst("abcd", gain, prices=dict.fromkeys("abcd", 1), goal=0.9, most=4)
    assert sorted(gain.measured) == ["a", "b", "c", "c", "cd", "cd", "cdb", "cdba", "d"]
