"""The audit reads the file: what computes on codes, what does not though it was planned to, what XNNPACK takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest
from flow import Quantized, producers, quantized
from graphs import GRAPHS, Net, chain, concat, lstm, residual

import dsedge
from dsedge.backends import litert
from dsedge.backends.base import Audit
from dsedge.backends.litert.audit import delegation
from dsedge.backends.litert.ops.unrolled import MAX_STEPS
from dsedge.backends.litert.read import read
from dsedge.frontend.shapes import fix_shapes
from dsedge.frontend.static import with_static_axes
from dsedge.model import Model
from dsedge.target import load_target

TARGET = load_target("raspberry-pi-5")
ACCEPTS = litert.contract(TARGET)


def made(model: Model) -> Quantized:
    if any("T" in (spec.shape or ()) for spec in model.inputs):
        model = fix_shapes(model, {"x": [5, 1, 8]})
    return quantized(with_static_axes(model, "litert")[0], ACCEPTS)


def audited(m: Quantized, folder: Path, model: ir.Model | None = None) -> Audit:
    return litert.audit(litert.build(model or m.model, folder), m.plan, TARGET)


@pytest.mark.parametrize("key", sorted(GRAPHS.keys() - {"branches"}))
def test_every_plan_is_kept(key: str, tmp_path: Path) -> None:
    m = made(GRAPHS[key]())
    found = audited(m, tmp_path)
    nodes = m.plan.nodes.values()
    assert found.performed
    assert found.unmatched == {}
    assert "all the same" not in found.summary
    assert found.int8_ops == sum(n.precision in ("int8", "int8_dynamic") for n in nodes)
    assert found.float_ops == sum(n.precision == "float" for n in nodes)


def bypass(model: ir.Model, name: str) -> None:
    """Take one Q/DQ pair out."""
    q = next(n for n in producers(model, "QuantizeLinear") if n.name == name)
    for use in list(q.outputs[0].uses()):
        ir.convenience.replace_all_uses_with(use.node.outputs, [q.inputs[0]], replace_graph_outputs=True)


@pytest.mark.parametrize("key", ["chain", "residual", "SiLU", "inverted residual"])
def test_every_missing_pair_is_seen(key: str, tmp_path: Path) -> None:
    names = [n.name or "" for n in producers(made(GRAPHS[key]()).model, "QuantizeLinear")]
    for name in names:
        m = made(GRAPHS[key]())
        bypass(m.model, name)
        found = audited(m, tmp_path)
        operators = read(tmp_path / "model.tflite")
        in_float = {o.node for o in operators if o.precision in ("float", "hybrid") and "QUANTIZE" not in o.op}
        assert found.unmatched.keys() == in_float - {n.name for n in m.plan.nodes.values() if n.precision == "float"}
        assert found.unmatched, f"without {name} everything is INT8?"
        assert f"{len(found.unmatched)} planned in INT8 run in float" in found.summary


def test_the_reason_names_the_operator(tmp_path: Path) -> None:
    m = made(residual())
    bypass(m.model, "relu_3_QuantizeLinear")
    found = audited(m, tmp_path)
    assert found.unmatched["Conv_2"] == "the file computes it in float, as CONV_2D"
    assert "Relu_3" not in found.unmatched, "what is fused goes under the name of its head"


def test_a_float_file_under_an_int8_plan(tmp_path: Path) -> None:
    m = made(chain())
    found = audited(m, tmp_path, m.graph)
    heavy = {n.name for n in m.plan.nodes.values() if n.op_type in ("Conv", "Gemm", "GlobalAveragePool")}
    assert heavy <= found.unmatched.keys()
    assert found.int8_ops < found.float_ops


def test_it_says_which_operators_each_node_became(tmp_path: Path) -> None:
    m = made(residual())
    found = audited(m, tmp_path)
    operators = read(tmp_path / "model.tflite")
    for node, shown in found.lowered.items():
        head = m.plan.nodes[node].head or node
        assert shown == ", ".join(f"{o.op} #{o.index}" for o in operators if o.node == head)
    assert found.lowered["Conv_0"].startswith("TRANSPOSE #1, CONV_2D #2")
    assert found.lowered["Relu_1"] == found.lowered["Conv_0"]


def test_partitions_and_what_lies_outside(tmp_path: Path) -> None:
    whole = made(residual())
    assert audited(whole, tmp_path).summary.endswith("in 1 XNNPACK partition")
    net = Net(x=(1, 8, 12, 12))
    gathered = net.op("Gather", net.conv("x", 16), net.ints(3, 1, 2, 0), axis=1)
    net.channels[gathered] = 4
    m = made(net.model(net.conv(gathered, 8)))
    found = audited(m, tmp_path)
    assert found.summary.endswith("in 2 XNNPACK partitions; outside of XNNPACK run GATHER")
    operators = read(tmp_path / "model.tflite")
    taken = delegation(tmp_path / "model.tflite", operators)
    assert [o.op for o in operators if not taken.takes(o)] == ["GATHER"]


def test_the_old_runtime_has_no_partitions(tmp_path: Path) -> None:
    board = load_target("pos-armv7")
    m = quantized(with_static_axes(residual(), "litert")[0], litert.contract(board))
    found = litert.audit(litert.build(m.model, tmp_path), m.plan, board)
    assert found.unmatched == {}
    assert "XNNPACK" not in found.summary


def test_an_operator_planned_in_float_between_pairs_is_float(tmp_path: Path) -> None:
    """TFLite has an INT8 kernel for it, which the contract passes over because it is slow."""
    net = Net(x=(1, 8, 12, 12))
    y = net.op("HardSwish", net.conv("x", 16))
    m = made(net.model(net.conv(y, 8)))
    found = audited(m, tmp_path)
    assert m.precision("HardSwish_1") == "float"
    assert [o.precision for o in read(tmp_path / "model.tflite") if o.node == "HardSwish_1"] == ["float"]
    assert "all the same" not in found.summary


def behind_codes(op: str) -> tuple[Quantized, str]:
    """An operator in float that reads codes and wants them in another order than that of a convolution."""
    net = Net(x=(1, 8, 12, 12))
    codes = net.op("Relu", net.conv(net.conv("x", 16), 16))
    y = net.op("Softmax", codes, axis=2) if op == "Softmax" else net.op("MatMul", codes, net.weight(12, 64))
    source = with_static_axes(net.model(net.op("Softmax", y), codes), "litert")[0]
    return quantized(source, ACCEPTS, lifted={y.title().replace("Matmul", "MatMul"): "asked"}), f"{op}_3"


@pytest.mark.parametrize("op", ["Softmax", "MatMul"])
def test_moves_of_codes_for_an_operator_in_float_do_not_make_it_int8(op: str, tmp_path: Path) -> None:
    m, name = behind_codes(op)
    found = audited(m, tmp_path)
    kinds = {o.op: o.precision for o in read(tmp_path / "model.tflite") if o.node == name}
    assert kinds["TRANSPOSE"] == "int8"
    assert "float" in kinds.values()
    assert m.precision(name) == "float"
    assert "all the same" not in found.summary
    assert found.lowered[name].startswith("TRANSPOSE")


def test_moves_of_codes_do_not_stand_for_weights_in_float(tmp_path: Path) -> None:
    m, name = behind_codes("MatMul")
    asked = replace(m.plan.nodes[name], precision="int8_dynamic", weights=(1,))
    found = audited(replace(m, plan=replace(m.plan, nodes={**m.plan.nodes, name: asked})), tmp_path)
    assert found.unmatched == {name: "the file holds its weights in float"}


def test_a_move_of_codes_is_int8_though_it_was_planned_in_float(tmp_path: Path) -> None:
    m = made(concat())
    name = next(n.name for n in m.plan.nodes.values() if n.op_type == "Concat")
    asked = replace(m.plan.nodes[name], precision="float")
    found = audited(replace(m, plan=replace(m.plan, nodes={**m.plan.nodes, name: asked})), tmp_path)
    assert f"1 planned in float run in INT8 all the same: {name}" in found.summary


@pytest.mark.parametrize(("steps", "says"), [(MAX_STEPS, False), (MAX_STEPS + 1, True)])
def test_it_says_that_a_state_is_kept(steps: int, says: bool, tmp_path: Path) -> None:
    m = quantized(fix_shapes(lstm(), {"x": [steps, 1, 8]}), ACCEPTS)
    found = audited(m, tmp_path)
    assert found.unmatched == {}
    assert ("call reset_all_variables() (Java: resetVariableTensors()) before each sequence" in found.summary) == says
    assert len(found.lowered["LSTM_0"]) < 200


def test_the_file_says_what_made_it(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    m = made(chain())
    m.model.metadata_props["fingerprint"] = "f" * 64
    raw = litert.build(m.model, tmp_path).main.read_bytes()
    file = schema.ModelT.InitFromObj(schema.Model.GetRootAs(raw, 0))
    contents = {entry.name.decode(): bytes(file.buffers[entry.buffer].data) for entry in file.metadata}
    assert json.loads(contents["dsedge"]) == {"version": dsedge.__version__, "fingerprint": "f" * 64}
    assert json.loads(contents["dsedge.nodes"]) == [o.node for o in read(tmp_path / "model.tflite")]
