"""Gather and its kin, ScatterND, OneHot and ReverseSequence: constant indices and those of run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.backends.litert.harness import check_float, check_int8, inferred, node, refused

Feeds = list[dict[str, np.ndarray]]
RNG = np.random.default_rng(0)

CONSTANT = {
    "scalar": (node("Gather", [(2, 6, 4), np.array(-2)], axis=1), ["SLICE", "RESHAPE"]),
    "row": (node("Gather", [(2, 6, 4), np.array([[2, 3, 4]])], axis=1), ["SLICE", "RESHAPE"]),
    "run": (node("Gather", [(2, 6, 4), np.array([2, 3, 4])], axis=1), ["SLICE"]),
    "all": (node("Gather", [(2, 3), np.array([0, -2, 2])], axis=1), []),
    "any": (node("Gather", [(2, 6, 4), np.array([[0, -1], [3, 3]])], axis=-2), ["GATHER"]),
    "elements": (node("GatherElements", [(2, 6, 4), RNG.integers(-4, 4, (2, 3, 4))], axis=-1), ["GATHER_ND"]),
    "nd": (node("GatherND", [(2, 6, 4), np.array([[0, -1], [1, 3]])]), ["GATHER_ND"]),
    "nd-batch": (node("GatherND", [(2, 6, 4), np.array([[-1], [3]])], batch_dims=1), ["GATHER_ND"]),
    "scatter": (
        node("ScatterND", [(2, 6, 4), np.array([[0, -1], [1, 3], [0, 0]]), (3, 4)]),
        ["RESHAPE", "RESHAPE", "CONCATENATION", "GATHER", "RESHAPE"],
    ),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_indices(name: str) -> None:
    model, ops = CONSTANT[name]
    assert check_float(model, tolerance=0).ops == ops
    found = check_int8(model, same=True, steps=0).ops
    assert found == [*["QUANTIZE"] * len(model.graph.input), *ops, "DEQUANTIZE"]
    for dtype in (onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.BOOL):
        typed = onnx.ModelProto()
        typed.CopyFrom(model)
        for value in (*typed.graph.input, *typed.graph.output):
            value.type.tensor_type.elem_type = dtype
        check_float(typed)


def indexed(
    op: str,
    shape: Sequence[int] | None,
    indices: Sequence[int],
    low: int,
    high: int,
    *constants: np.ndarray,
    codes: bool = False,
    dtype: type = np.int64,
    **attributes: Any,
) -> tuple[onnx.ModelProto, Feeds]:
    """A node that reads indices at run time, from `low` to before `high`; `codes` puts Q/DQ pairs around."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    fed = [helper.make_tensor_value_info("i", kind, indices)]
    names = ["i"]
    if shape is not None:
        fed.insert(0, helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape))
        names.insert(0, "x")
    stored = [numpy_helper.from_array(c, f"c{k}") for k, c in enumerate(constants)]
    nodes = [helper.make_node(op, [*names, *(c.name for c in stored)], ["y"], name="n", **attributes)]
    if codes:
        stored += [
            numpy_helper.from_array(np.float32(0.02), "s"),
            numpy_helper.from_array(np.array(3, np.int8), "z"),
        ]
        nodes[0].input[0], nodes[0].output[0] = "x_in", "y_float"
        pairs = [
            helper.make_node(kind, [source, "s", "z"], [target], name=target)
            for source, middle, result in (("x", "x_codes", "x_in"), ("y_float", "y_codes", "y"))
            for kind, source, target in (("QuantizeLinear", source, middle), ("DequantizeLinear", middle, result))
        ]
        nodes = [*pairs[:2], *nodes, *pairs[2:]]
    graph = helper.make_graph(nodes, "g", fed, [helper.make_empty_tensor_value_info("y")], stored)
    model = inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    rng = np.random.default_rng(1)
    samples = [{"i": rng.integers(low, high, indices).astype(dtype)} for _ in range(3)]
    if shape is not None:
        samples = [{"x": rng.uniform(-2, 2, shape).astype(np.float32), **sample} for sample in samples]
    return model, samples


RUN_TIME: dict[str, tuple[Sequence[Any], dict[str, Any], list[str]]] = {
    "gather": (("Gather", (2, 6, 4), (5,), -6, 6), {"axis": 1}, ["FLOOR_MOD", "GATHER"]),
    "gather-scalar": (("Gather", (2, 6, 4), (), -6, 6), {"axis": 1}, ["FLOOR_MOD", "GATHER"]),
    "gather-matrix": (("Gather", (2, 6, 4), (2, 3), -4, 4), {"axis": -1}, ["FLOOR_MOD", "GATHER"]),
    "elements": (
        ("GatherElements", (2, 6, 4), (2, 3, 4), -6, 6),
        {"axis": 1},
        ["FLOOR_MOD", "RESHAPE", "CONCATENATION", "GATHER_ND"],
    ),
    "nd": (("GatherND", (2, 6, 4), (5, 2), -2, 2), {}, ["FLOOR_MOD", "GATHER_ND"]),
    "nd-batch": (
        ("GatherND", (2, 6, 4), (2, 3, 1), -6, 6),
        {"batch_dims": 1},
        ["FLOOR_MOD", "CONCATENATION", "GATHER_ND"],
    ),
}


@pytest.mark.parametrize("name", RUN_TIME)
def test_indices_of_run_time(name: str) -> None:
    how, attributes, ops = RUN_TIME[name]
    model, feeds = indexed(*how, **attributes)
    assert check_float(model, feeds, tolerance=0).ops == ops
    if how[0] != "GatherND":  # the standard has it with int64 only
        check_float(*indexed(*how, dtype=np.int32, **attributes), tolerance=0)
    model, feeds = indexed(*how, codes=True, **attributes)
    assert check_float(model, feeds, tolerance=1e-6).ops == ["QUANTIZE", *ops, "DEQUANTIZE"]


def test_what_an_arg_max_finds_needs_no_wrapping() -> None:
    model = node("ArgMax", [(4, 6)], axis=1, keepdims=0)
    table = numpy_helper.from_array(RNG.normal(size=(6, 3)).astype(np.float32), "table")
    model.graph.initializer.append(table)
    model.graph.node.append(helper.make_node("Gather", ["table", "y0"], ["y"], name="g"))
    model.graph.value_info.append(model.graph.output[0])
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (4, 3)))
    assert check_float(model).ops == ["ARG_MAX", "GATHER"]


def test_scatter_adds() -> None:
    model = node("ScatterND", [(2, 6, 4), np.array([[0, -1], [1, 3], [0, 5]]), (3, 4)], reduction="add")
    assert check_float(model).ops == ["SCATTER_ND", "ADD"]


@pytest.mark.parametrize("codes", [False, True])
def test_scatter_to_places_of_run_time(codes: bool) -> None:
    model, feeds = indexed("ScatterND", (6, 4), (2, 1), -6, 6, codes=codes)
    model.graph.input.append(helper.make_tensor_value_info("u", onnx.TensorProto.FLOAT, (2, 4)))
    for sample in feeds:
        sample["u"] = RNG.uniform(-2, 2, (2, 4)).astype(np.float32)
        sample["i"] = RNG.permutation(6)[:2].reshape(2, 1) - 3
    scatter = next(n for n in model.graph.node if n.op_type == "ScatterND")
    scatter.input.append("u_in" if codes else "u")
    if codes:
        names = (("QuantizeLinear", "u", "u_codes"), ("DequantizeLinear", "u_codes", "u_in"))
        for place, (kind, source, target) in enumerate(names):
            model.graph.node.insert(place, helper.make_node(kind, [source, "s", "z"], [target], name=target))
    found = check_float(inferred(model), feeds, tolerance=1e-6).ops
    ops = ["FLOOR_MOD", "CAST", "SCATTER_ND", "SCATTER_ND", "GREATER", "SELECT_V2"]
    assert found == (["QUANTIZE", "QUANTIZE", *ops, "DEQUANTIZE"] if codes else ops)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int) -> None:
    values = np.array([0.5, 2.0], np.float32)
    model, feeds = indexed("OneHot", None, (2, 6), -5, 5, np.array([3]), values, axis=axis)
    assert check_float(model, feeds, tolerance=0).ops == ["LESS", "ADD", "SELECT_V2", "ONE_HOT"]


@pytest.mark.parametrize("batch", [0, 1])
def test_reverse_sequence(batch: int) -> None:
    shape = (2, 6, 4) if batch == 0 else (6, 2, 4)
    model, feeds = indexed("ReverseSequence", shape, (2,), 1, 7, batch_axis=batch, time_axis=1 - batch)
    assert check_float(model, feeds, tolerance=0).ops == ["REVERSE_SEQUENCE"]


TABLES = {
    "one-scale": (None, 0, ["FLOOR_MOD", "GATHER", "DEQUANTIZE"]),
    "of-rows": (0, 0, ["FLOOR_MOD", "GATHER", "CAST", "GATHER", "RESHAPE", "MUL"]),
    "of-columns": (1, 0, ["FLOOR_MOD", "GATHER", "CAST", "MUL"]),
    "columns-of-columns": (1, 1, ["FLOOR_MOD", "GATHER", "CAST", "GATHER", "RESHAPE", "MUL"]),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_a_table_of_codes_stays_small(name: str, shape: tuple[int, ...]) -> None:
    per, axis, ops = TABLES[name]
    scales = RNG.uniform(0.01, 0.1, () if per is None else (20, 6)[per]).astype(np.float32)
    stored = [RNG.integers(-127, 128, (20, 6)).astype(np.int8), scales, np.zeros(scales.shape, np.int8)]
    nodes = [
        helper.make_node("DequantizeLinear", list("tsz"), ["real"], name="d", axis=per or 0),
        helper.make_node("Gather", ["real", "i"], ["y"], name="n", axis=axis),
    ]
    fed = [helper.make_tensor_value_info("i", onnx.TensorProto.INT64, shape)]
    constants = [numpy_helper.from_array(a, n) for a, n in zip(stored, "tsz", strict=True)]
    graph = helper.make_graph(nodes, "g", fed, [helper.make_empty_tensor_value_info("y")], constants)
    model = inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    assert check_float(model, [{"i": RNG.integers(-6, 6, shape)} for _ in range(3)], tolerance=1e-7).ops == ops


def test_refusals() -> None:
    refused(node("Gather", [(2, 6), np.array([1, 6])], axis=1), "an index lies outside of its axis")
    refused(node("NonZero", [(2, 6)]), "depends on the data")
    refused(node("ScatterND", [(4,), np.array([[1]]), (1,)], reduction="max"), "not with 'max'")
    refused(node("ScatterND", [(4,), np.array([[4]]), (1,)]), "an index lies outside of its axis")
    boxes = [(1, 6, 4), (1, 1, 6), np.array([3]), np.array([0.5], np.float32)]
    refused(node("NonMaxSuppression", boxes), "select boxes in the application")
