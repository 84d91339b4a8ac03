"""What the contract promises to be INT8 the plugin runs in INT8, and the artifact computes what the Q/DQ graph says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flow import Quantized, quantized, run, samples
from graphs import GRAPHS, Net, residual

pytest.importorskip("openvino")

from dsedge.backends import openvino as backend
from dsedge.bench.runner import sqnr
from dsedge.model import Model
from dsedge.target import load_target

TARGET = load_target("pos-x86")
CONTRACT = backend.contract(TARGET)
on_host = pytest.mark.skipif(not TARGET.matches_host()[0], reason=TARGET.matches_host()[1])


def made(source: Model) -> Quantized:
    return quantized(source, CONTRACT)


def quantizers(m: Quantized) -> set[str]:
    """The values that are read through a pair."""
    return {n.inputs[0].name or "" for n in m.model.graph if n.op_type == "QuantizeLinear" and n.inputs[0] is not None}


def fidelity(m: Quantized, folder: Path) -> float:
    """Of the artifact to the Q/DQ graph as it is written."""
    batches = samples(m.source)
    predict = backend.load(backend.build(m.model, folder).main, 1)
    got = [np.concatenate([np.ravel(a) for a in c]) for c in zip(*[predict(b.feeds) for b in batches], strict=True)]
    wanted = run(m.model, batches, optimize=False)
    return min(ratio for a, b in zip(wanted, got, strict=True) if (ratio := sqnr(a, b)) is not None)


@on_host
@pytest.mark.parametrize("key", GRAPHS)
def test_int8_runs_and_computes_what_the_graph_says(key: str, tmp_path: Path) -> None:
    m = made(GRAPHS[key]())
    assert m.plan.quantized
    assert fidelity(m, tmp_path) > 50
    found = backend.audit(backend.build(m.model, tmp_path), m.plan, TARGET)
    assert found.performed
    # What is joined to a constant the plugin computes in float; the flow returns it to float.
    assert set(found.unmatched) == ({"Concat_8", "Conv_9"} if key == "constants" else set())


def products(shape: tuple[int | str, ...], *, bias: bool) -> Model:
    net = Net(x=shape)
    y = net.op("MatMul", "x", net.weight(32, 48, fan_in=32))
    y = net.op("Add", y, net.weight(48, fan_in=64)) if bias else y
    return net.model(net.op("Transpose", net.op("Reshape", y, net.ints(0, 64, 6, 8)), perm=[0, 2, 1, 3]))


@on_host
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", [1, "N"])
def test_a_product_that_is_reshaped_keeps_its_scales(batch: int | str, bias: bool, tmp_path: Path) -> None:
    assert fidelity(made(products((batch, 64, 32), bias=bias)), tmp_path) > 50


def test_pairs_stand_on_inputs_alone() -> None:
    net = Net(x=("N", 8, 12, 12))
    y = net.conv(net.op("MaxPool", net.conv("x", 16, act="SiLU"), kernel_shape=[2, 2]), 16, act="Relu")
    m = made(net.model(y))
    assert quantizers(m) == {"x", "mul_2", "maxpool_3"}
    assert m.plan.values["mul_2"].group == m.plan.values["maxpool_3"].group
    assert m.precision("Mul_2") == "float"
    assert "kernel" in m.reason("Mul_2")
    assert m.plan.nodes["Relu_5"].head == "Conv_4"


def test_a_residual_sum_reads_codes_on_its_skip_alone() -> None:
    m = made(residual())
    sums = [n for n in m.plan.nodes.values() if n.op_type == "Add"]
    assert [(n.precision, len(n.inputs)) for n in sums] == [("int8", 1)] * len(sums)
    nodes = {n.name: n for n in m.graph.graph}
    for plan in sums:
        node = nodes[plan.name]
        (other,) = (v for i, v in enumerate(node.inputs) if i not in plan.inputs)
        assert other is not None and other.name not in quantizers(m)


def attention() -> Model:
    net = Net(x=(1, 32, 64))
    q, k, v = (net.op("MatMul", "x", net.weight(64, 64, fan_in=64)) for _ in range(3))
    scores = net.op("Mul", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])), net.const(0.125))
    return net.model(net.op("MatMul", net.op("MatMul", net.op("Softmax", scores), v), net.weight(64, 64, fan_in=64)))


@on_host
def test_queries_and_keys_are_codes_and_probabilities_are_not(tmp_path: Path) -> None:
    m = made(attention())
    products = [n for n in m.plan.nodes.values() if n.op_type in ("MatMul", "Gemm")]
    assert (
        sorted((n.precision, bool(n.weights)) for n in products)
        == [("float", False), ("int8", False)] + [("int8", True)] * 4
    )
    of_scores = next(n for n in products if n.precision == "int8" and not n.weights)
    zero_points = {int(m.plan.values[name].qparams.zero_point) for name in of_scores.reads}  # type: ignore[union-attr]
    assert zero_points == {128}
    assert fidelity(m, tmp_path) > 40


@pytest.mark.parametrize(
    ("board", "variant", "largest"), [("pos-x86", "x86-vnni", 127), ("pos-x86-celeron", "x86", 63)]
)
def test_weights_leave_headroom_where_products_saturate(board: str, variant: str, largest: int, tmp_path: Path) -> None:
    import openvino

    accepts = backend.contract(load_target(board))
    assert accepts.variant == variant
    m = quantized(residual(), accepts)
    assert fidelity(m, tmp_path) > 50
    stored = openvino.Core().read_model(tmp_path / "model.xml").get_ordered_ops()
    codes = [
        op.get_data() for op in stored if op.get_type_name() == "Constant" and op.get_element_type().to_string() == "i8"
    ]
    weights = [array for array in codes if array.size > 1]
    assert len(weights) == sum(bool(n.weights) for n in m.plan.nodes.values())
    assert {int(np.abs(array.astype(int)).max()) for array in weights} == {largest}


@on_host
def test_the_greatest_of_channels_is_found_among_scaled_ones(tmp_path: Path) -> None:
    """In float the plugin would compare the products of channels, and then scale each."""
    net = Net(x=(1, 8, 14, 14))
    greatest = net.op("ReduceMax", net.conv("x", 16, act="Relu"), net.ints(1), keepdims=1)
    net.channels[greatest] = 1
    m = made(net.model(net.conv(greatest, 4, 7)))
    assert fidelity(m, tmp_path) > 50
