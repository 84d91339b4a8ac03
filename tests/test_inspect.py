from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from dsedge.frontend import load
from dsedge.frontend.onnx import from_proto
from dsedge.inspect import Inspection, Parameters, inspect_model

DIGITS = Path(__file__).parents[1] / "models" / "digits_cnn" / "digits_cnn.onnx"


def inspected(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int | str | None]],
    weights: dict[str, np.ndarray],
    output: str = "y",
    **model: Any,
) -> Inspection:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    graph.output[0].ClearField("type")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("mine", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, **model)
    return inspect_model(from_proto(proto, "m", "m.onnx", "00", folder=None))


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


X = {"x": (2, 8, 10, 10)}
SEQUENCE = {"x": (5, 3, 24)}
INTEGERS = {"a": zeros(2, 8, 10, 10, dtype="uint8"), "s": np.float32(1), "z": np.uint8(0)}


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "macs"),
    [
        # outputs [2, 16, 8, 8], 8 * 3 * 3 products each
        (helper.make_node("Conv", ["x", "w"], ["y"]), X, {"w": zeros(16, 8, 3, 3)}, 2 * 16 * 64 * 72),
        (helper.make_node("Conv", ["x", "w"], ["y"], group=8), X, {"w": zeros(8, 1, 3, 3)}, 2 * 8 * 64 * 9),
        # inputs [2, 8, 10, 10] meet 4 * 2 * 2 weights each; with two groups 2 * 2 * 2
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), X, {"w": zeros(8, 4, 2, 2)}, 1600 * 16),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2), X, {"w": zeros(8, 2, 2, 2)}, 1600 * 8),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), {"x": (3, 7)}, {"w": zeros(7, 5)}, 3 * 7 * 5),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), {"x": (3, 7)}, {"w": zeros(5, 7)}, 3 * 7 * 5),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), {"x": (7, 3)}, {"w": zeros(7, 5)}, 3 * 7 * 5),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": (4, 3, 7)}, {"w": zeros(7, 5)}, 4 * 3 * 7 * 5),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), {"x": (3, 7)}, {"w": zeros(7)}, 3 * 7),
        (helper.make_node("MatMul", ["x", "v"], ["y"]), {"x": (4, 3, 7), "v": (4, 7, 6)}, {}, 4 * 3 * 7 * 6),
        # 5 steps of 3 sequences, both directions: 4 gates of [16] from 24 inputs and 16 states
        (
            helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=16, direction="bidirectional"),
            SEQUENCE,
            {"w": zeros(2, 64, 24), "r": zeros(2, 64, 16)},
            5 * 3 * 2 * 64 * (24 + 16),
        ),
        (
            helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=16),
            SEQUENCE,
            {"w": zeros(1, 48, 24), "r": zeros(1, 48, 16)},
            5 * 3 * 48 * 40,
        ),
        (
            helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=16),
            SEQUENCE,
            {"w": zeros(1, 16, 24), "r": zeros(1, 16, 16)},
            5 * 3 * 16 * 40,
        ),
        (
            helper.make_node("QLinearConv", ["a", "s", "z", "w", "s", "z", "s", "z"], ["y"]),
            {},
            {**INTEGERS, "w": zeros(16, 8, 3, 3, dtype="uint8")},
            2 * 16 * 64 * 72,
        ),
        (
            helper.make_node("QLinearMatMul", ["a", "s", "z", "w", "s", "z", "s", "z"], ["y"]),
            {},
            {**INTEGERS, "w": zeros(10, 4, dtype="uint8")},
            2 * 8 * 10 * 10 * 4,
        ),
        (
            helper.make_node("ConvInteger", ["a", "w"], ["y"]),
            {},
            {**INTEGERS, "w": zeros(16, 8, 3, 3, dtype="uint8")},
            2 * 16 * 64 * 72,
        ),
        (helper.make_node("Relu", ["x"], ["y"]), X, {}, 0),
    ],
)
def test_macs(
    node: onnx.NodeProto, inputs: dict[str, Sequence[int]], weights: dict[str, np.ndarray], macs: int
) -> None:
    found = inspected([node], inputs, weights)
    assert (found.macs, found.notes) == (macs, ())
    assert found.macs_by_operator == ({node.op_type: macs} if macs else {})


def test_a_quantized_graph_has_the_macs_of_the_float_one() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["wq", "s"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["y"]),
    ]
    weights = {"s": np.float32(1), "z": np.uint8(0), "wq": zeros(16, 8, 3, 3, dtype="int8")}
    found = inspected(nodes, X, weights)
    assert found.macs == 2 * 16 * 64 * 72
    assert found.operators == {"DequantizeLinear": 2, "QuantizeLinear": 1, "Conv": 1}
    assert found.parameters == {"int8": Parameters(1152, 1152), "float32": Parameters(1, 4), "uint8": Parameters(1, 1)}


def test_axes_without_a_length_count_as_one_and_are_named() -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    found = inspected([conv], {"x": ("batch", 8, 10, 10)}, {"w": zeros(16, 8, 3, 3)})
    assert (found.macs, found.notes) == (16 * 64 * 72, ("axes without a length count as 1: batch",))


def test_what_cannot_be_counted_is_said() -> None:
    nodes = [
        helper.make_node("Mine", ["x"], ["a"], domain="mine"),
        helper.make_node("MatMul", ["a", "b"], ["c"]),
        helper.make_node("Einsum", ["c", "c"], ["y"], equation="ij,jk->ik"),
    ]
    found = inspected(nodes, {"x": (1,), "b": (2, 2)}, {})
    assert found.macs == 0
    assert found.notes == ("not counted, for want of a shape or a formula: 1 Einsum, 1 MatMul",)
    assert found.operators == {"mine.Mine": 1, "MatMul": 1, "Einsum": 1}
    assert found.opsets == {"ai.onnx": 20, "com.microsoft": 1, "mine": 1}


def test_bodies_functions_and_constant_nodes_count() -> None:
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(zeros(7, 5), "k"))
    function = helper.make_function(
        "mine",
        "Linear",
        ["p", "q"],
        ["r"],
        [helper.make_node("MatMul", ["p", "q"], ["r"])],
        [helper.make_opsetid("", 20)],
    )
    branches = [
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "k"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 5])],
        )
        for name in ("then", "else")
    ]
    nodes = [
        constant,
        helper.make_node("Linear", ["x", "k"], ["l"], domain="mine"),
        helper.make_node("If", ["c"], ["i"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Add", ["l", "i"], ["y"]),
    ]
    found = inspected(nodes, {"x": (3, 7)}, {"c": np.array(True)}, functions=[function])
    assert found.operators["MatMul"] == 3
    assert found.macs == 3 * (3 * 7 * 5)
    assert found.parameters["float32"] == Parameters(35, 140)
    assert any("counted once" in note for note in found.notes)


def test_nodes_in_any_order() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Conv", ["x", "w"], ["a"])]
    assert inspected(nodes, X, {"w": zeros(16, 8, 3, 3)}).macs == 2 * 16 * 64 * 72


def test_a_trained_model() -> None:
    model = load(DIGITS)
    before = ir.to_proto(model.graph).SerializeToString()
    found = inspect_model(model)
    assert ir.to_proto(model.graph).SerializeToString() == before, "inspecting changes nothing"
    assert (found.inputs[0].name, found.inputs[0].layout) == ("image", "NCHW")
    assert found.nodes == sum(found.operators.values())
    assert found.macs == sum(found.macs_by_operator.values()) > 3_000_000
    assert json.loads(json.dumps(found.to_json()))["inputs"][0]["shape"] == ["batch", 1, 8, 8]
