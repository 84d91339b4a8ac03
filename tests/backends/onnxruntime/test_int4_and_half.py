"""INT4 and float16 weights through the real runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from flow import contract, run, samples
from graphs import Net, image

from dsedge.backends.onnxruntime import audit, build
from dsedge.backends.onnxruntime.lower import lower
from dsedge.bench.runner import sqnr
from dsedge.data import Batch
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.insert import insert
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import annotate_as_asked, parse_request
from dsedge.quant.rounding import round_weights
from dsedge.target import load_target

HOST = load_target("pos-x86")


def asked(source: Model, text: str, batches: list[Batch] | None = None) -> tuple[ir.Model, QuantPlan, ir.Model]:
    """The float graph, the plan and the Q/DQ graph of a request."""
    graph, accepts = normalize(source)[0].graph, contract()
    plan = annotate_as_asked(graph.graph, accepts, parse_request(text))
    names = [name for name in plan.values if name not in graph.graph.initializers]
    observers = calibrate(graph, names, batches or samples(source), "minmax")[0] if names else {}
    plan = assign_ranges(plan, graph.graph, accepts, observers, "minmax")
    plan, rounded = round_weights(graph, plan, accepts, {}, {})
    return graph, plan, insert(rounded, plan, accepts)


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def size(model: ir.Model) -> int:
    return len(ir.to_proto(model).SerializeToString())


def layer(op: str, k: int, n: int) -> Model:
    """One linear layer: a MatMul on a batch of matrices, or a Gemm with its weight one way or the other."""
    net = Net(x=(2, 3, k) if op == "MatMul" else (3, k))
    if op == "MatMul":
        return net.model(net.op("MatMul", "x", net.weight(k, n, fan_in=k)))
    transposed = op == "Gemm^T"
    weight = net.weight(*((n, k) if transposed else (k, n)), fan_in=k)
    return net.model(net.op("Gemm", "x", weight, net.const(net.rng.random(n, np.float32)), transB=int(transposed)))


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Gemm^T"])
@pytest.mark.parametrize(("k", "n"), [(512, 256), (500, 300)])
def test_a_linear_layer_runs_in_blocks(op: str, k: int, n: int) -> None:
    source = layer(op, k, n)
    graph, plan, qdq = asked(source, "int4")
    lowered = lower(qdq)
    assert "MatMulNBits" in ops(lowered)
    assert not {"MatMul", "Gemm", "DequantizeLinear"} & set(ops(lowered))
    assert [v.name for v in lowered.graph.outputs] == [v.name for v in graph.graph.outputs]
    batches = samples(source, 4)
    (reference,), (simulated,), (got,) = (
        run(graph, batches),
        run(qdq, batches, optimize=False),
        run(lowered, batches),
    )
    assert sqnr(reference, simulated) > 20
    assert sqnr(reference, got) > 20
    assert sqnr(simulated, got) > 35, "the rounding of activations is small beside that of weights"
    assert size(lowered) < size(graph) / 5.5
    assert [node.precision for node in plan.nodes.values()].count("int4") == 1


def test_layers_that_share_a_weight_share_its_blocks() -> None:
    net = Net(x=(2, 512))
    weight = net.weight(512, 512)
    source = net.model(net.op("Gemm", net.op("Relu", net.op("Gemm", "x", weight)), weight))
    graph, _, qdq = asked(source, "int4")
    assert ops(qdq).count("DequantizeLinear") == 1
    lowered = lower(qdq)
    assert ops(lowered).count("MatMulNBits") == 2
    assert size(lowered) < size(graph) / 5.5


def embedding() -> Model:
    """Rows of a table by token id, and a linear layer behind."""
    net = Net()
    net.inputs = [onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, 7])]
    rows = net.op("Gather", net.weight(1000, 300), "ids")
    return net.model(net.op("MatMul", rows, net.weight(300, 600, fan_in=300)))


@pytest.mark.parametrize(("text", "smaller"), [("int4", 5.5), ("fp16", 1.98), ("int4,Gather=fp16", 2.6)])
def test_tables_are_stored_as_asked(text: str, smaller: float) -> None:
    source = embedding()
    graph, _, qdq = asked(source, text)
    ids = [Batch({"ids": np.array([[0, 5, 999, 17, 3, 5, 998]])}, 1, None)]
    (reference,), (simulated,), (got,) = run(graph, ids), run(qdq, ids, optimize=False), run(lower(qdq), ids)
    assert sqnr(reference, got) > (60 if text == "fp16" else 17)
    assert sqnr(simulated, got) > 35
    assert size(graph) / size(lower(qdq)) > smaller
    assert ("GatherBlockQuantized" in ops(lower(qdq))) == (text == "int4")


def test_int8_and_int4_in_one_artifact(tmp_path: Path) -> None:
    net = image()
    y = net.op("Flatten", net.conv(net.conv("x", 16, act="Relu"), 8, act="Relu"))
    source = net.model(net.gemm(net.op("Relu", net.gemm(y, 8 * 144, 256)), 256, 10))
    graph, plan, qdq = asked(source, "int8,Gemm=int4")
    kinds = {node.name: node.precision for node in plan.nodes.values()}
    assert set(kinds.values()) >= {"int8", "int4", "float"}
    found = audit(build(qdq, tmp_path), plan, HOST)
    assert (found.unmatched, found.int4_ops) == ({}, 1)
    assert found.int8_ops == sum(kind == "int8" for kind in kinds.values())
    assert found.int8_ops + found.int4_ops + found.float_ops == len(kinds)
    assert "on INT4 weights: 1" in found.summary or not found.performed
    batches = samples(source, 4)
    assert sqnr(run(graph, batches)[0], run(lower(qdq), batches)[0]) > 15


def test_the_audit_finds_an_int4_layer_that_is_not_run_so(tmp_path: Path) -> None:
    source = layer("Gemm", 512, 512)
    graph, plan, _ = asked(source, "int4")
    found = audit(build(graph, tmp_path), plan, HOST)
    assert list(found.unmatched) == [node.name for node in plan.nodes.values() if node.precision == "int4"]
    assert (found.int4_ops, found.float_ops) == (0, len(plan.nodes))


def test_float16_weights_are_widened_once(tmp_path: Path) -> None:
    net = image()
    source = net.model(net.head(net.conv(net.conv("x", 32, act="Relu"), 64, act="Relu")))
    graph, plan, qdq = asked(source, "fp16")
    assert {node.precision for node in plan.nodes.values() if node.op_type in ("Conv", "Gemm")} == {"fp16"}
    artifact = build(qdq, tmp_path)
    assert 1.9 < size(graph) / artifact.bytes < 2.1
    found = audit(artifact, plan, HOST)
    assert (found.unmatched, found.int8_ops, found.int4_ops) == ({}, 0, 0)
    assert "at every inference" not in found.summary
    batches = samples(source, 4)
    assert sqnr(run(graph, batches)[0], run(qdq, batches)[0]) > 60


def test_weights_out_of_the_range_of_float16_stay_float() -> None:
    net = Net(x=(1, 64))
    huge = net.const(np.full((64, 64), 1e5, np.float32))
    _, plan, qdq = asked(net.model(net.op("Gemm", "x", huge)), "fp16")
    (node,) = plan.nodes.values()
    assert (node.precision, node.reason) == ("float", "its weights exceed the range of float16")
    assert "Cast" not in ops(qdq)
