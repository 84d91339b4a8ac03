"""Reductions, ArgMax, TopK, CumSum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends.litert.harness import check_float, check_int8, feeds_of, inferred, node, refused

_X = (2, 3, 4, 5)
_REDUCTIONS = "Mean Sum Max Min Prod L1 L2 SumSquare LogSum LogSumExp".split()


def axes(*numbers: int) -> np.ndarray:
    """Axes as an input."""
    return np.array(numbers, np.int64)


FORMS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "two axes": ([_X, axes(1, -1)], {}),
    "dropped": ([_X, axes(2)], {"keepdims": 0}),
    "all": ([_X], {}),
    "all, dropped": ([_X], {"keepdims": 0}),
    "none": ([_X], {"noop_with_empty_axes": 1}),
    "attribute": ([_X], {"axes": [1, 3], "keepdims": 0, "opset": 11}),
    "rank 5": ([(2, 2, 3, 4, 5), axes(2, 4)], {}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("op", _REDUCTIONS)
def test_float(op: str, form: str) -> None:
    inputs, attributes = FORMS[form]
    model = node(f"Reduce{op}", inputs, **attributes)
    check_float(model, feeds_of(model, low=0.1 if op == "LogSum" else -2.0))


def test_log_sum_exp_does_not_overflow() -> None:
    model = node("ReduceLogSumExp", [_X, axes(1)])
    check_float(model, feeds_of(model, low=-200.0, high=200.0))


@pytest.mark.parametrize("form", ["two axes", "dropped", "all, dropped", "rank 5"])
@pytest.mark.parametrize("op", ["Mean", "Sum", "Max", "Min"])
def test_int8(op: str, form: str) -> None:
    inputs, attributes = FORMS[form]
    same = op in ("Max", "Min")
    check_int8(node(f"Reduce{op}", inputs, **attributes), same=same, exact=1.0 if same else 0.95)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax"])
def test_integers(op: str, dtype: type) -> None:
    check_float(node(op, [_X, axes(1)], dtype=dtype))


@pytest.mark.parametrize("attributes", [{}, {"axis": 2, "keepdims": 0}, {"axis": -1, "select_last_index": 1}])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_arg(op: str, attributes: dict[str, Any]) -> None:
    model = node(op, [_X], **attributes)
    check_float(model, [{"x0": np.round(feeds["x0"])} for feeds in feeds_of(model)])


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_arg_of_codes(op: str, last: int) -> None:
    """The integers that it gives need no scale, and of equal codes it finds the one that it finds of equal numbers."""
    found = check_int8(node(op, [_X], axis=1, select_last_index=last), low=-2e-6, high=2e-6)
    assert "DEQUANTIZE" not in found.ops


@pytest.mark.parametrize("keep", [0, 1])
def test_arg_of_a_vector(keep: int) -> None:
    check_float(node("ArgMax", [(7,)], axis=0, keepdims=keep))


@pytest.mark.parametrize("attributes", [{}, {"axis": 1}, {"largest": 0}])
def test_top_k(attributes: dict[str, Any]) -> None:
    model = node("TopK", [_X, axes(2)], 2, **attributes)
    check_float(model, [{"x0": np.round(2 * feeds["x0"])} for feeds in feeds_of(model)])


@pytest.mark.parametrize("attributes", [{}, {"exclusive": 1}, {"reverse": 1, "exclusive": 1}])
def test_cumulative_sum(attributes: dict[str, Any]) -> None:
    check_float(node("CumSum", [_X, axes(-2)], **attributes))


def test_a_number_of_values_that_is_fed_is_refused() -> None:
    value = helper.make_tensor_value_info
    top = helper.make_node("TopK", ["x", "k"], ["y", "i"])
    fed = [value("x", TensorProto.FLOAT, (4,)), value("k", TensorProto.INT64, (1,))]
    given = [value("y", TensorProto.FLOAT, (2,)), value("i", TensorProto.INT64, (2,))]
    graph = helper.make_graph([top], "g", fed, given)
    refused(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), "computed at run time")


@pytest.mark.parametrize(
    ("op", "attributes", "ops"),
    [
        ("ReduceMean", {"keepdims": 0}, ["TRANSPOSE", "CONV_2D", "MEAN"]),
        ("ReduceMax", {"keepdims": 1}, ["TRANSPOSE", "CONV_2D", "REDUCE_MAX", "RESHAPE"]),
        ("ArgMax", {"axis": 1, "keepdims": 0}, ["TRANSPOSE", "CONV_2D", "ARG_MAX"]),
    ],
)
def test_axes_are_renamed_for_channels_last(op: str, attributes: dict[str, Any], ops: list[str]) -> None:
    rng = np.random.default_rng(0)
    constants = {"w": rng.normal(0, 0.5, (4, 3, 3, 3)).astype(np.float32)}
    inputs = ["a"]
    if op != "ArgMax":
        constants["axes"] = axes(1)
        inputs.append("axes")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv"),
        helper.make_node(op, inputs, ["y"], name="n", **attributes),
    ]
    fed = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3, 6, 7))]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", fed, [helper.make_empty_tensor_value_info("y")], stored)
    model = inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    assert check_float(model).ops == ops
