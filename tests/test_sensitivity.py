from __future__ import annotations

import numpy as np
import onnx_ir as ir
from flow import contract, samples
from graphs import Net

from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.insert import insert
from dsedge.sensitivity import rank


def test_the_node_that_costs_the_most_comes_first() -> None:
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
    model = normalize(net.model(net.conv(y, 8)))[0]
    accepts, batches = contract("arm"), samples(model, 4)
    plan = annotate(model.graph.graph, accepts)
    heavy = [node.name for node in plan.nodes.values() if node.weights]
    assert len(heavy) == 3
    computed = [name for name in plan.values if name not in model.graph.graph.initializers]
    observers, _ = calibrate(model.graph, computed, batches, "minmax")
    told: list[tuple[int, int]] = []

    def without(name: str) -> ir.Model:
        lifted = annotate(model.graph.graph, accepts, lifted={name: "measured"})
        lifted = assign_ranges(lifted, model.graph.graph, accepts, observers, "minmax")
        return insert(model.graph, lifted, accepts)

    accepted = assign_ranges(plan, model.graph.graph, accepts, observers, "minmax")
    whole = insert(model.graph, accepted, accepts)

    prices = {heavy[0]: 1, heavy[1]: 10**6, heavy[2]: 1}  # dear, and worth it: the others gain next to nothing
    ranked = rank(
        heavy,
        without,
        model.graph,
        batches,
        quantized=whole,
        prices=prices,
        progress=lambda *args: told.append(args),
    )
    assert sorted(ranked) == sorted(heavy)
    assert ranked[0] == heavy[1]
    assert told == [(1, 3), (2, 3), (3, 3)]
