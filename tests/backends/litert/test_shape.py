"""Views, repetition and what is made of shapes: every operator in float, as codes, and of integers and booleans."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dsedge.backends.litert.regroup import regrouped
from tests.backends.litert.harness import check_float, check_int8, node, refused


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES = {
    "reshape": (node("Reshape", [(2, 3, 4), ints(0, -1)]), ["RESHAPE"]),
    "reshape-same": (node("Reshape", [(2, 3, 4), ints(2, -1, 4)]), []),
    "flatten": (node("Flatten", [(2, 3, 4)], axis=2), ["RESHAPE"]),
    "squeeze": (node("Squeeze", [(1, 3, 1, 4), ints(0, 2)]), ["RESHAPE"]),
    "squeeze-all": (node("Squeeze", [(1, 3, 1, 4)]), ["RESHAPE"]),
    "unsqueeze": (node("Unsqueeze", [(3, 4), ints(0, -1)]), ["RESHAPE"]),
    "identity": (node("Identity", [(3, 2)]), []),
    "transpose-default": (node("Transpose", [(3, 2)]), ["TRANSPOSE"]),
    "transpose-of-ones": (node("Transpose", [(1, 3, 1, 4)], perm=[0, 2, 1, 3]), ["RESHAPE"]),
    "transpose-3": (node("Transpose", [(2, 3, 4)], perm=[2, 0, 1]), ["TRANSPOSE"]),
    "transpose-5": (node("Transpose", [(2, 3, 4, 2, 3)], perm=[4, 2, 0, 1, 3]), ["TRANSPOSE"]),
    "transpose-6": (node("Transpose", [(2, 3, 4, 2, 3, 2)], perm=[5, 3, 1, 0, 2, 4]), ["TRANSPOSE"]),
    "expand": (node("Expand", [(3, 1, 4), ints(2, 3, 5, 4)]), ["BROADCAST_TO"]),
    "expand-6": (node("Expand", [(3, 1, 4), ints(1, 2, 2, 3, 5, 4)]), ["BROADCAST_TO"]),
    "expand-by-the-input": (node("Expand", [(3, 5, 4), ints(1, 4)]), []),
    "expand-with-ones": (node("Expand", [(3, 4), ints(1, 1, 1)]), ["RESHAPE"]),
    "tile": (node("Tile", [(3, 2, 4), ints(2, 1, 3)]), ["TILE"]),
    "tile-once": (node("Tile", [(3, 2, 4), ints(1, 1, 1)]), []),
}


@pytest.mark.parametrize("name", CASES)
def test_float(name: str) -> None:
    model, ops = CASES[name]
    assert check_float(model, tolerance=0).ops == ops


@pytest.mark.parametrize("name", CASES)
def test_codes_are_copied(name: str) -> None:
    model, ops = CASES[name]
    assert check_int8(model, same=True, steps=0).ops == ["QUANTIZE", *ops, "DEQUANTIZE"]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.bool_, np.int8, np.uint8])
@pytest.mark.parametrize("op", ["Reshape", "Transpose", "Expand", "Tile"])
def test_other_types(op: str, dtype: type) -> None:
    shape = (2, 3, 4, 2, 1)
    how = {
        "Reshape": ([shape, ints(0, -1)], {}),
        "Transpose": ([shape], {"perm": [4, 2, 0, 3, 1]}),
        "Expand": ([shape, ints(2, 3, 4, 2, 5)], {}),
        "Tile": ([shape, ints(1, 2, 1, 1, 3)], {}),
    }
    inputs, attributes = how[op]
    check_float(node(op, inputs, dtype=dtype, **attributes))


def test_views_of_views_read_the_first() -> None:
    model = node("Unsqueeze", [(3, 4), ints(0)])
    model.graph.node.append(onnx.helper.make_node("Squeeze", ["y0"], ["back"]))
    model.graph.node.append(onnx.helper.make_node("Relu", ["back"], ["out"]))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, (3, 4)))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("y0", onnx.TensorProto.FLOAT, (1, 3, 4)))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("back", onnx.TensorProto.FLOAT, (3, 4)))
    assert check_float(model).ops == ["RELU"]


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.bool_])
def test_constant_of_shape(dtype: type) -> None:
    value = numpy_helper.from_array(np.array([1], dtype))
    assert check_float(node("ConstantOfShape", [ints(3, 4)], value=value)).ops == ["FILL"]


def test_shapes_are_constants() -> None:
    assert check_float(node("Shape", [(3, 4, 5)], start=1)).ops == []
    assert check_float(node("Size", [(3, 4, 5)])).ops == []
    assert check_float(node("Range", [np.array(9), np.array(1), np.array(-3)])).ops == []


def test_a_range_that_is_computed_is_refused() -> None:
    model = node("Range", [(), np.float32(5), np.float32(1)])
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y0", onnx.TensorProto.FLOAT, (3,)))
    refused(model, "computed at run time")


def test_too_many_axes() -> None:
    refused(node("Tile", [(1,) * 8 + (2,), ints(*[1] * 8, 2)]), "takes 8 axes, it has 9")


def test_axes_that_stay_together_stay() -> None:
    shuffle = regrouped((1, 8, 4, 4), (1, 2, 4, 4, 4), (0, 2, 3, 1), plain=False)
    assert shuffle == ((0, 2, 3, 1), (0, 3, 4, 1, 2))
    flat = regrouped((2, 8, 4, 4), (2, 128), (0, 2, 3, 1), plain=False)
    assert flat == ((0, 1, 2, 3), (0, 1))
    ones = regrouped((1, 8), (1, 8, 1, 1), (0, 1), plain=False)
    assert ones == ((0, 1), (0, 2, 3, 1))
    uneven = regrouped((6, 4), (4, 6), (1, 0), plain=True)
    assert uneven == ((0, 1), (0, 1))
    empty = regrouped((0, 4), (4, 0), (1, 0), plain=True)
    assert empty == ((0, 1), (0, 1))


def test_a_node_whose_axes_are_open_is_refused() -> None:
    model = node("Transpose", [(3, 2)])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    refused(model, "is not known before it runs")
