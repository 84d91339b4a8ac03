"""Linear layers that quantize their inputs themselves, and when they are raced against calibrated ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from flow import executed, samples, worst_sqnr
from graphs import Net, chain, gru, lstm

import dsedge
from dsedge.backends import onnxruntime as backend
from dsedge.backends.onnxruntime.lower import lower
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.calibrate import assign_ranges
from dsedge.quant.insert import insert
from dsedge.quant.precision import annotate_as_asked, parse_request
from dsedge.target import Target, load_target

BOARD = load_target("pos-x86")


def tagger(length: int = 32) -> Model:
    """An LSTM with linear layers on every step, the way taggers and recognizers of text are made."""
    hidden, wide = 16, 256
    net = Net(x=(length, 1, 8))
    weights = [net.weight(1, 4 * hidden, k, fan_in=k) for k in (8, hidden)]
    (y,) = net.ops("LSTM", "x", *weights, count=1, hidden_size=hidden)
    y = net.op("Squeeze", y, net.ints(1))
    y = net.op("MatMul", net.op("Relu", net.op("MatMul", y, net.weight(hidden, wide))), net.weight(wide, wide))
    return net.model(y)


def dynamic(source: Model, target: Target = BOARD) -> tuple[ir.Model, ir.Model]:
    """The normalized graph, and the Q/DQ graph that needs no calibration."""
    accepts, graph = backend.contract(target), normalize(source)[0].graph
    plan = annotate_as_asked(graph.graph, accepts, parse_request("int8_dynamic"))
    return graph, insert(graph, assign_ranges(plan, graph.graph, accepts, {}, "minmax"), accepts)


def linear(kind: str) -> Model:
    net = Net(x=(24, 64) if kind.startswith("Gemm") else (2, 12, 64))
    if kind == "MatMul":
        return net.model(net.op("MatMul", "x", net.weight(64, 96, fan_in=64)))
    bias = [net.weight(96)] if kind != "Gemm" else []
    weight = net.weight(96, 64) if kind == "Gemm transB" else net.weight(64, 96, fan_in=64)
    return net.model(net.op("Gemm", "x", weight, *bias, transB=int(kind == "Gemm transB")))


@pytest.mark.parametrize("kind", ["Gemm", "Gemm bias", "Gemm transB", "MatMul"])
def test_a_linear_layer_quantizes_its_input_itself(kind: str, tmp_path: Path) -> None:
    graph, qdq = dynamic(linear(kind))
    lowered = lower(qdq)
    assert [node.op_type for node in lowered.graph].count("DynamicQuantizeMatMul") == 1
    assert not any(node.op_type in ("MatMul", "Gemm", "DequantizeLinear") for node in lowered.graph)
    assert worst_sqnr(graph, lowered, samples(linear(kind))) > 35
    kept = {node.op_type for node in executed(backend.build(qdq, tmp_path).main, tmp_path)}
    assert "DynamicQuantizeMatMul" in kept


def test_weights_that_came_quantized_stay_as_they_are() -> None:
    _, qdq = dynamic(linear("MatMul"))
    for node in qdq.graph:
        node.metadata_props.clear()
    assert lower(qdq) is qdq


def test_weights_leave_headroom_where_products_saturate() -> None:
    _, qdq = dynamic(linear("Gemm"), load_target("pos-x86-celeron"))
    (codes,) = (v.const_value.numpy() for v in lower(qdq).graph.initializers.values() if v.dtype == ir.DataType.INT8)  # type: ignore[union-attr]
    assert np.abs(codes).max() == 63


def test_recurrent_nets_race_both_ways_where_they_differ() -> None:
    def named(source: Model) -> tuple[str, ...]:
        return backend.alternatives(BOARD, normalize(source)[0].graph.graph)

    assert named(tagger()) == ("int8_dynamic",)
    assert named(tagger(length=1)) == named(lstm()) == named(gru()) == named(chain()) == ()


def test_no_calibration_is_needed_and_all_of_it_runs_in_int8(tmp_path: Path) -> None:
    bundle = dsedge.compile(
        tagger(), target=BOARD, runtime="onnxruntime", precision="int8_dynamic", output=tmp_path / "out"
    )
    rows = [row for row in bundle.manifest.candidates if row.precision == "int8_dynamic"]
    assert len(rows) == 1 and rows[0].sqnr_db is not None and rows[0].sqnr_db > 25
