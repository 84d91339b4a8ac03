"""The audit must see every operator that the runtime left in float, whatever broke its pattern."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
from flow import VARIANTS, Quantized, contract, executed, producers, quantized
from graphs import GRAPHS, Net, chain, concat, residual

from dsedge.backends.onnxruntime import audit, build
from dsedge.backends.onnxruntime.audit import plain_name
from dsedge.target import load_target

HOST = next((name for name in VARIANTS.values() if load_target(name).matches_host()[0]), None)
pytestmark = pytest.mark.skipif(HOST is None, reason="no variant of the contract is this machine's")
HEAVY = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "LSTM", "GRU", "MatMulNBits"}
VARIANT = next((v for v, name in VARIANTS.items() if name == HOST), "x86-vnni")


def made(key: str) -> Quantized:
    return quantized(GRAPHS[key](), contract(VARIANT))


@pytest.mark.parametrize("key", GRAPHS)
def test_the_counts_are_those_of_the_executed_graph(key: str, tmp_path: Path) -> None:
    m = made(key)
    artifact = build(m.model, tmp_path)
    found = audit(artifact, m.plan, load_target(HOST or ""))
    graph = executed(artifact.main, tmp_path)
    nodes = m.plan.nodes.values()
    in_float = [n for n in nodes if n.op_type in HEAVY and (n.precision == "float" or n.name in found.unmatched)]
    assert sum(n.op_type in HEAVY for n in graph) == len(in_float)
    assert found.performed
    assert found.int8_ops + found.float_ops == sum(n.precision != "integer" for n in nodes)
    assert found.float_ops == sum(n.precision == "float" or _lost(m, n.name, found.unmatched) for n in nodes)


def _lost(m: Quantized, name: str, unmatched: dict[str, str]) -> bool:
    return bool({name, m.plan.nodes[name].head} & set(unmatched))


def bypass(model: ir.Model, name: str) -> None:
    """Take one Q/DQ pair out."""
    q = next(n for n in producers(model, "QuantizeLinear") if n.name == name)
    for use in list(q.outputs[0].uses()):
        ir.convenience.replace_all_uses_with(use.node.outputs, [q.inputs[0]], replace_graph_outputs=True)


@pytest.mark.parametrize("key", ["chain", "residual", "concat", "SiLU", "inverted residual", "matmul3d"])
def test_every_missing_pair_is_seen(key: str, tmp_path: Path) -> None:
    names = [n.name for n in producers(made(key).model, "QuantizeLinear")]
    for index, name in enumerate(names):
        m = made(key)
        bypass(m.model, name or "")
        folder = tmp_path / str(index)
        folder.mkdir()
        artifact = build(m.model, folder)
        found = audit(artifact, m.plan, load_target(HOST or ""))
        heavy = sum(n.op_type in HEAVY for n in executed(artifact.main, folder))
        planned = sum(n.op_type in HEAVY and n.precision == "float" for n in m.plan.nodes.values())
        lost = sum(m.plan.nodes[n].op_type in HEAVY for n in found.unmatched)
        assert heavy - planned == lost, name
        assert found.unmatched or key in ("concat", "SiLU"), f"without {name} everything still runs in INT8?"


def test_the_reason_names_the_node_and_the_runtime_s_operator(tmp_path: Path) -> None:
    m = quantized(residual(), contract(VARIANT))
    bypass(m.model, "relu_3_QuantizeLinear")
    found = audit(build(m.model, tmp_path), m.plan, load_target(HOST or ""))
    assert "Conv_2" in found.unmatched
    assert "Relu_3" not in found.unmatched, "what is fused goes under the name of its head"
    assert "left it in float as" in found.unmatched["Conv_2"]
    assert f"{len(found.unmatched)} planned in INT8 run in float" in found.summary


def test_a_float_artifact_under_an_int8_plan(tmp_path: Path) -> None:
    m = quantized(concat(), contract(VARIANT))
    found = audit(build(m.graph, tmp_path), m.plan, load_target(HOST or ""))
    convolutions = {n.name for n in m.plan.nodes.values() if n.op_type == "Conv"}
    assert convolutions <= set(found.unmatched)
    assert found.int8_ops == 0


def test_weights_that_are_dequantized_at_every_inference_are_told(tmp_path: Path) -> None:
    m = quantized(chain(), contract(VARIANT))
    bypass(m.model, "relu_3_QuantizeLinear")
    assert (
        "weights are dequantized at every inference"
        in audit(build(m.model, tmp_path), m.plan, load_target(HOST or "")).summary
    )


def test_another_machine_s_artifact_is_not_audited(tmp_path: Path) -> None:
    m = quantized(chain(), contract("arm"))
    found = audit(
        build(m.model, tmp_path), m.plan, load_target("raspberry-pi-4" if HOST != "raspberry-pi-4" else "pos-x86")
    )
    assert not found.performed
    assert found.summary.startswith("not audited here: this machine")
    assert found.unmatched == {}
    assert found.int8_ops == sum(n.precision == "int8" for n in m.plan.nodes.values())


def test_two_nodes_of_one_layer_are_told_apart(tmp_path: Path) -> None:
    """Kernels are renamed after their results: two convolutions with similar names."""
    net = Net(x=(1, 8, 12, 12))
    y = net.conv("x", 16, act="Relu")
    z = net.conv(y, 16, act="Relu")
    for node, name in zip([n for n in net.nodes if n.op_type == "Conv"], ("conv", "conv_nchwc"), strict=True):
        node.name = name
    m = quantized(net.model(net.conv(z, 8)), contract(VARIANT), lifted={"conv": "a test"})
    found = audit(build(m.model, tmp_path), m.plan, load_target(HOST or ""))
    assert found.unmatched == {}
    assert m.plan.nodes["conv_nchwc"].precision == "int8"


@pytest.mark.parametrize(
    "name, plain",
    [
        ("/a/Conv_token_12", "/a/Conv"),
        ("relu_1_nchwc", "relu_1"),
        ("fused Gemm_0", "Gemm_0"),
        ("/b/Mul/QuickGeluFusion/", "/b/Mul"),
        ("/b/Mul/QuickGeluFusion/_token_3", "/b/Mul"),
        ("/a/Fusion/Conv", "/a/Fusion/Conv"),
    ],
)
def test_names_of_the_optimizer(name: str, plain: str) -> None:
    assert plain_name(ir.node("Conv", [], name=name)) == plain
