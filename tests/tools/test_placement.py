from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from placement import differences, pairs, tensors, without

FROM_CODES = "DequantizeLinear"


def quantized(*slots: tuple[str, int]) -> ir.Model:
    """x -> Relu -> Add(relu, x) -> MaxPool, read through pairs at some slots; the weight of a Conv is codes."""
    nodes = {"relu": ["x"], "conv": ["relu", "w"], "add": ["conv", "x"], "pool": ["add"]}
    kinds = {"relu": "Relu", "conv": "Conv", "add": "Add", "pool": "MaxPool"}
    made = [helper.make_node(FROM_CODES, ["codes", "scale"], ["w"])]
    taken: set[str] = set()
    for name, inputs in nodes.items():
        read = list(inputs)
        for i, value in enumerate(inputs):
            if (name, i) in slots:
                read[i] = f"{value}_read"
                if value not in taken:
                    made.append(helper.make_node("QuantizeLinear", [value, "scale", "zero"], [f"{value}_codes"]))
                    made.append(helper.make_node(FROM_CODES, [f"{value}_codes", "scale", "zero"], [f"{value}_read"]))
                taken.add(value)
        attributes = {"kernel_shape": [1, 1]} if name == "pool" else {}
        made.append(helper.make_node(kinds[name], read, [name], name=name, **attributes))
    constants = {"codes": np.ones((4, 4, 1, 1), np.int8), "scale": np.float32(1), "zero": np.int8(0)}
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("pool", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return ir.from_proto(model)


def test_pairs_are_those_of_activations() -> None:
    graph = quantized(("relu", 0), ("add", 1), ("conv", 0))
    assert pairs(graph) == {("relu", 0): "Relu", ("conv", 0): "Conv", ("add", 1): "Add"}
    assert tensors(graph) == 2  # x is read twice


def test_a_slot_can_read_in_float_again_and_others_keep_the_pair() -> None:
    graph = quantized(("relu", 0), ("add", 1))
    assert pairs(without(graph, {("add", 1)})) == {("relu", 0): "Relu"}
    assert len(pairs(graph)) == 2


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([("add", 1)], [("add", 0), ("add", 1)], {(False, "second term of a residual sum")}),
        ([], [("add", 0)], {(False, "sum without a convolution")}),
        ([("pool", 0)], [], {(True, "pyramid of pools")}),
        ([("conv", 0)], [("pool", 0)], {(True, "Conv"), (False, "pool of a value that is read once")}),
        ([("conv", 0)], [("conv", 0)], set()),
    ],
)
def test_differences(
    ours: list[tuple[str, int]], theirs: list[tuple[str, int]], expected: set[tuple[bool, str]]
) -> None:
    found = differences(pairs(quantized(*ours)), pairs(quantized(*theirs)), {"conv": "a product"})
    assert {(each.ours, each.kind) for each in found} == expected
    assert all(each.reason for each in found)
