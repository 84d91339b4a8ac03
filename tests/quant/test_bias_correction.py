from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from flow import contract, run, samples
from graphs import Net

from dsedge.data import Batch
from dsedge.model import Model
from dsedge.quant.annotate import annotate
from dsedge.quant.bias_correction import correct_biases
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.contract import NumberFormat
from dsedge.quant.insert import insert
from dsedge.quant.observers import Observer

# Weights of 7 bits: the error is there to be seen.
ACCEPTS = replace(contract("arm"), weight=NumberFormat("int8", symmetric=True, bits=7))


def conv(**attributes: int) -> Model:
    net = Net(x=(1, 16, 8, 8))
    return net.model(
        net.op("Conv", "x", net.weight(16, 16 // attributes.get("group", 1), 3, 3), net.weight(16), **attributes)
    )


def gemm(transposed: int) -> Model:
    net = Net(x=(256, 64))
    weight = net.weight(*((32, 64) if transposed else (64, 32)))
    return net.model(net.op("Gemm", "x", weight, net.weight(32), transB=transposed))


@pytest.mark.parametrize(
    "model",
    [conv(), conv(group=4), conv(group=16), gemm(0), gemm(1)],
    ids=["conv", "grouped", "depthwise", "Gemm", "transB"],
)
def test_the_mean_of_every_channel_is_that_of_the_float_model(model: Model) -> None:
    batches = [Batch({"x": np.abs(b.feeds["x"]) + 1}, 1, None) for b in samples(model, 32)]
    graph = model.graph
    for value in graph.graph.outputs:
        value.shape = None
    plan = annotate(graph.graph, ACCEPTS)
    assert plan.quantized
    observers, _ = calibrate(graph, [n for n in plan.values], batches, "minmax")
    plan = assign_ranges(plan, graph.graph, ACCEPTS, observers, "minmax")

    def shifts(quantized: ir.Model) -> np.ndarray:
        reference, got = run(graph, batches)[0], run(quantized, batches)[0]
        channels = 16 if graph.graph[0].op_type == "Conv" else 32
        error = (got - reference).reshape(-1, *((channels, 36) if channels == 16 else (channels, 1)))
        return np.abs(error.mean(axis=(0, 2)))

    corrected = correct_biases(graph, plan, ACCEPTS, observers)
    before, after = shifts(insert(graph, plan, ACCEPTS)), shifts(insert(corrected, plan, ACCEPTS))
    assert after.mean() < before.mean() / 3


def test_a_bias_that_two_nodes_share_and_unknown_means_are_left_alone() -> None:
    net = Net(x=(1, 16, 8, 8))
    bias = net.weight(16)
    model = net.model(*(net.op("Conv", "x", net.weight(16, 16, 3, 3), bias) for _ in range(2)))
    plan = annotate(model.graph.graph, ACCEPTS)
    observers, _ = calibrate(model.graph, list(plan.values), samples(model), "minmax")
    assert _bias(correct_biases(model.graph, plan, ACCEPTS, observers), bias) == _bias(model.graph, bias)
    single = conv()
    plan = annotate(single.graph.graph, ACCEPTS)
    blind = {name: Observer(histogram=False) for name in plan.values}
    assert _bias(correct_biases(single.graph, plan, ACCEPTS, blind), "const_1") == _bias(single.graph, "const_1")


def test_the_model_that_is_given_keeps_its_biases() -> None:
    model = conv()
    plan = annotate(model.graph.graph, ACCEPTS)
    observers, _ = calibrate(model.graph, list(plan.values), samples(model), "minmax")
    plan = assign_ranges(plan, model.graph.graph, ACCEPTS, observers, "minmax")
    before = _bias(model.graph, "const_1")
    corrected = correct_biases(model.graph, plan, ACCEPTS, observers)
    assert _bias(model.graph, "const_1") == before
    assert _bias(corrected, "const_1") != before


def _bias(model: ir.Model, name: str) -> list[float]:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy().tolist()
