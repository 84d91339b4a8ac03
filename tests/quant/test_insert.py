from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from flow import Quantized, contract, producers, quantized, run, samples, worst_sqnr
from graphs import GRAPHS, Net, chain, multi_output, residual, shared_weight

from dsedge.bench.runner import sqnr

# dB against the float model on the calibration samples: three less than was reached when the test was written.
FLOORS = {
    "residual": 37, "inverted residual": 41, "concat": 42, "signed concat": 42, "inception": 41, "grouped": 42,
    "two inputs": 39, "doubled": 42, "moves": 42, "shared weight": 40, "LSTM": 35, "LSTM with states": 35,
}  # fmt: skip
DEFAULT_FLOOR = 29


@cache
def made(key: str, variant: str = "x86-vnni") -> Quantized:
    return quantized(GRAPHS[key](), contract(variant))


@pytest.mark.parametrize("key", GRAPHS)
def test_the_graph_is_valid_and_keeps_its_interface(key: str) -> None:
    m = made(key)
    onnx.checker.check_model(ir.to_proto(m.model), full_check=True)
    assert _interface(m.model) == _interface(m.graph)
    names = [node.name for node in m.model.graph]
    assert len(names) == len(set(names))
    assert {node.name for node in m.graph.graph} <= set(names)


def _interface(model: ir.Model) -> list[tuple[object, ...]]:
    return [(v.name, v.dtype, v.shape) for v in (*model.graph.inputs, *model.graph.outputs)]


@pytest.mark.parametrize("key", GRAPHS)
@pytest.mark.parametrize("variant", ["x86-vnni", "arm-dotprod"])
def test_it_computes_nearly_what_the_float_model_does(variant: str, key: str) -> None:
    m = made(key, variant)
    assert worst_sqnr(m.graph, m.model, samples(m.source)[:4], optimize=False) >= FLOORS.get(key, DEFAULT_FLOOR)


@pytest.mark.parametrize("key", GRAPHS)
def test_values_of_a_tie_group_share_one_scale_and_one_zero_point(key: str) -> None:
    m = made(key)
    quantizers = _quantizers(m)
    for group, values in m.plan.groups().items():
        shared = {(id(q.inputs[1]), id(q.inputs[2])) for value in values for q in quantizers[value]}
        assert len(shared) == 1, f"{group}: {values}"
    groups = [m.plan.values[name].group for name in quantizers]
    scales = {id(q.inputs[1]) for qs in quantizers.values() for q in qs}
    assert len(scales) == len(set(groups)), "groups that are not tied have scales of their own"


def _quantizers(m: Quantized) -> dict[str, list[ir.Node]]:
    """Value of the plan -> the QuantizeLinear that writes it, or for a constant the DequantizeLinear that reads it."""
    found: dict[str, list[ir.Node]] = {}
    for node in producers(m.model, "QuantizeLinear"):
        found.setdefault((node.name or "").removesuffix("_QuantizeLinear"), []).append(node)
    for name in m.plan.values.keys() & m.graph.graph.initializers.keys():
        users = [n for n in m.model.graph for p in m.plan.nodes.values() if n.name == p.name and name in p.reads]
        found[name] = [
            dq
            for node in users
            for value in node.inputs
            if value is not None and (dq := value.producer()) is not None and (dq.name or "").startswith(f"{name}_")
        ]
    assert set(found) == set(m.plan.values)
    return found


@pytest.mark.parametrize("key", GRAPHS)
def test_no_quantizer_comes_between_a_fused_pair(key: str) -> None:
    m = made(key)
    nodes = {node.name: node for node in m.model.graph}
    for plan in m.plan.nodes.values():
        if plan.head is not None:
            assert nodes[plan.name].inputs[0] is nodes[plan.head].outputs[0]
            assert [use.node.op_type for use in nodes[plan.name].outputs[0].uses()] == ["QuantizeLinear"]


@pytest.mark.parametrize("key", GRAPHS)
def test_weights_are_stored_as_integers_and_nothing_twice(key: str) -> None:
    m = made(key)
    nodes = {node.name: node for node in m.model.graph}
    for plan in m.plan.nodes.values():
        for index, dtype in [*((i, ir.DataType.INT8) for i in plan.weights), (plan.bias, ir.DataType.INT32)]:
            if index is None:
                continue
            value = nodes[plan.name].inputs[index]
            assert value is not None
            dq = value.producer()
            assert dq is not None
            assert dq.op_type == "DequantizeLinear"
            assert dq.inputs[0] is not None
            assert dq.inputs[0].const_value is not None
            assert dq.inputs[0].const_value.dtype == dtype
    unused = [name for name, v in m.model.graph.initializers.items() if not v.uses() and not v.is_graph_output()]
    assert unused == []


@pytest.mark.parametrize("variant", ["x86-vnni", "x86", "arm-dotprod", "arm"])
def test_number_formats_follow_the_contract(variant: str) -> None:
    accepts, m = contract(variant), made("residual", variant)
    for node in producers(m.model, "QuantizeLinear"):
        assert node.outputs[0].dtype == ir.DataType.from_numpy(np.dtype(accepts.activation.dtype))
    for node in producers(m.model, "Conv"):
        dq = node.inputs[1].producer()
        codes, scale, zero_point = (v.const_value.numpy() for v in dq.inputs)
        assert np.abs(codes.astype(int)).max() == accepts.weight.limits[1]
        assert scale.shape == zero_point.shape == (codes.shape[0],)
        assert not zero_point.any()
        bias, x = node.inputs[2].producer(), node.inputs[0].producer()
        np.testing.assert_array_equal(bias.inputs[1].const_value.numpy(), x.inputs[1].const_value.numpy() * scale)


def test_the_float_model_is_left_as_it_is() -> None:
    source = chain()
    before = ir.to_proto(source.graph).SerializeToString()
    quantized(source)
    assert ir.to_proto(source.graph).SerializeToString() == before


def test_an_output_that_is_also_consumed_is_dequantized_once() -> None:
    m = quantized(multi_output())
    out = m.model.graph.outputs[0]
    assert out.producer().op_type == "DequantizeLinear"
    assert {use.node.op_type for use in out.uses()} >= {"Conv"}


def test_a_weight_that_two_nodes_read_is_stored_once() -> None:
    m = quantized(shared_weight())
    _, second, third = producers(m.model, "Conv")
    assert second.inputs[1] is third.inputs[1]
    assert second.inputs[2] is not third.inputs[2], "the grid of the bias depends on the scale of the input"


def test_a_shared_weight_with_two_biases_keeps_both_on_its_grid() -> None:
    """The runtime adds the bias on the grid scale_x * scale_w, whatever scale the bias has in the graph."""
    net = Net(x=("N", 8, 12, 12))
    weight = net.const((net.rng.standard_normal((16, 8, 3, 3)) * 1e-9).astype(np.float32))
    biases = [net.const((net.rng.standard_normal(16) * size).astype(np.float32)) for size in (1e-9, 50)]
    model = net.model(*(net.op("Conv", "x", weight, bias) for bias in biases))
    m = quantized(model)
    for conv in producers(m.model, "Conv"):
        x, w, b = (v.producer().inputs[1].const_value.numpy() for v in conv.inputs)
        np.testing.assert_array_equal(b, x * w)
    reference, got = (run(g, samples(model)) for g in (m.graph, m.model))
    assert all((sqnr(a, b) or np.inf) > 25 for a, b in zip(reference, got, strict=True))


@pytest.mark.parametrize("suffix", ["scale", "zero_point", "quantized", "dequantized", "float", "QuantizeLinear"])
def test_names_of_the_model_are_not_taken(suffix: str) -> None:
    """A model that was quantized before has such names."""
    net = Net(x=("N", 8, 12, 12))
    y = net.conv("x", 16, act="Relu")
    m = quantized(net.model(net.conv(net.op("Max", y, net.const(np.float32(0.5), f"{y}_{suffix}")), 8)))
    onnx.checker.check_model(ir.to_proto(m.model), full_check=True)
    reached = worst_sqnr(m.graph, m.model, samples(m.source), optimize=False)
    assert reached > 30


def test_the_name_of_a_node_is_not_taken() -> None:
    net = Net(x=("N", 8, 12, 12))
    y = net.conv("x", 16)
    net.nodes[-1].output[0] = "y"
    net.channels["y"] = net.channels.pop(y)
    net.nodes[-1].name = "y_QuantizeLinear"
    m = quantized(net.model(net.conv("y", 8)))
    names = [node.name for node in m.model.graph]
    assert len(names) == len(set(names))


def test_two_runs_give_the_same_bytes() -> None:
    first, second = (ir.to_proto(quantized(residual()).model).SerializeToString() for _ in range(2))
    assert first == second
