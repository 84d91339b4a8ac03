"""Matrix products: Gemm, MatMul, Einsum."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from dsedge.backends.litert.contract import contract
from dsedge.backends.litert.emit import emit
from dsedge.data import Batch
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.insert import insert
from dsedge.target import load_target
from tests.backends.litert.harness import (
    check_float,
    check_int8,
    feeds_of,
    inferred,
    node,
    operators,
    quantized,
    refused,
    run,
)

_RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    """Constants."""
    return _RNG.normal(0, 0.5, shape).astype(np.float32)


GEMM: dict[str, tuple[list[Any], dict[str, Any], list[str]]] = {
    "plain": ([(4, 32), weights(32, 16), weights(16)], {}, ["FULLY_CONNECTED"]),
    "transposed weight": ([(4, 32), weights(16, 32), weights(16)], {"transB": 1}, ["FULLY_CONNECTED"]),
    "transposed input": ([(32, 4), weights(32, 16)], {"transA": 1}, ["TRANSPOSE", "FULLY_CONNECTED"]),
    "row": ([(4, 32), weights(32, 16), weights(1, 16)], {"then": "Relu"}, ["FULLY_CONNECTED"]),
    "one number": ([(4, 32), weights(32, 16), weights()], {}, ["FULLY_CONNECTED"]),
    "factors": ([(4, 32), weights(32, 16), weights(16)], {"alpha": -0.5, "beta": 2.0}, ["FULLY_CONNECTED"]),
    "column": ([(4, 32), weights(32, 16), weights(4, 1)], {"then": "Relu"}, ["FULLY_CONNECTED", "ADD"]),
    "matrix": ([(4, 32), weights(32, 16), weights(4, 16)], {"then": "Clip:0,6"}, ["FULLY_CONNECTED", "ADD"]),
    "fed bias": ([(4, 32), weights(32, 16), (16,)], {"beta": 0.5}, ["MUL", "FULLY_CONNECTED", "ADD"]),
    "fed weight": ([(4, 32), (16, 32)], {"transB": 1}, ["BATCH_MATMUL"]),
    "fed weight, activation": ([(4, 32), (32, 16)], {"then": "Relu"}, ["BATCH_MATMUL", "MUL"]),
    "all fed": ([(4, 32), (32, 16), (4, 16)], {"alpha": 2.0, "then": "Relu"}, ["BATCH_MATMUL", "MUL", "ADD"]),
}


@pytest.mark.parametrize("case", GEMM)
def test_gemm(case: str) -> None:
    inputs, attributes, ops = GEMM[case]
    assert check_float(node("Gemm", inputs, **attributes)).ops == ops


MATMUL: dict[str, tuple[Any, Any, str]] = {
    "matrix": ((4, 32), weights(32, 16), "FULLY_CONNECTED"),
    "rank 3": ((2, 4, 32), weights(32, 16), "FULLY_CONNECTED"),
    "rank 5": ((2, 3, 2, 4, 32), weights(32, 16), "FULLY_CONNECTED"),
    "vector, matrix": ((32,), weights(32, 16), "FULLY_CONNECTED"),
    "matrix, vector": ((2, 4, 32), weights(32), "FULLY_CONNECTED"),
    "vectors": ((32,), weights(32), "FULLY_CONNECTED"),
    "batch of weights": ((2, 4, 32), weights(2, 32, 16), "BATCH_MATMUL"),
    "weight first": (weights(4, 32), (2, 32, 16), "BATCH_MATMUL"),
    "fed": ((4, 32), (32, 16), "BATCH_MATMUL"),
    "fed, rank 5": ((2, 2, 3, 4, 32), (2, 2, 3, 32, 16), "BATCH_MATMUL"),
    "broadcast": ((2, 1, 4, 32), (3, 32, 16), "BATCH_MATMUL"),
    "broadcast left": ((4, 32), (2, 3, 32, 16), "BATCH_MATMUL"),
    "fed vector behind": ((2, 4, 32), (32,), "BATCH_MATMUL"),
    "fed vector before": ((32,), (2, 32, 16), "BATCH_MATMUL"),
    "fed vectors": ((32,), (32,), "BATCH_MATMUL"),
}


@pytest.mark.parametrize("case", MATMUL)
def test_matmul(case: str) -> None:
    a, b, op = MATMUL[case]
    found = check_float(node("MatMul", [a, b])).ops
    assert [o for o in found if o != "RESHAPE"] == [op]


INT8: dict[str, tuple[onnx.ModelProto, dict[str, Any]]] = {
    "gemm": (node("Gemm", [(64, 128), weights(128, 32), weights(32)]), {"weights": {1: 1}, "bias": 2}),
    "gemm relu": (node("Gemm", [(4, 32), weights(16, 32), weights(16)], transB=1, then="Relu"), {"weights": {1: 0}}),
    "gemm one scale": (node("Gemm", [(4, 32), weights(32, 16)]), {"weights": {1: None}}),
    "gemm alpha": (node("Gemm", [(4, 32), weights(32, 16), weights(16)], alpha=0.5), {"weights": {1: 1}}),
    "gemm fed": (node("Gemm", [(4, 32), (16, 32)], transB=1), {}),
    "matmul": (node("MatMul", [(2, 4, 32), weights(32, 16)]), {"weights": {1: 1}}),
    "matmul vector": (node("MatMul", [(2, 4, 32), weights(32)]), {"weights": {1: None}}),
    "matmul batch of weights": (node("MatMul", [(2, 4, 32), weights(2, 32, 16)]), {"weights": {1: None}}),
    "matmul fed": (node("MatMul", [(2, 3, 64, 32), (2, 3, 32, 64)]), {}),
    "matmul broadcast": (node("MatMul", [(2, 1, 4, 32), (3, 32, 16)]), {}),
    "matmul fed vector": (node("MatMul", [(32,), (2, 32, 16)]), {}),
    "einsum": (node("Einsum", [(2, 3, 4, 8), (2, 5, 4, 8)], equation="bqhd,bkhd->bhqk"), {}),
}


@pytest.mark.parametrize("case", INT8)
def test_int8(case: str) -> None:
    model, how = INT8[case]
    check_int8(model, exact=0.97, **how)


GREAT = np.array([3e5] + [0] * 15, np.float32)
FLOAT_ISLANDS: dict[str, tuple[onnx.ModelProto, dict[str, Any]]] = {
    "a bias for each row": (node("Gemm", [(4, 32), weights(32, 16), weights(4, 1)]), {"weights": {1: 1}}),
    "scales along the inputs": (node("Gemm", [(4, 32), weights(32, 16)]), {"weights": {1: 0}}),
    "an activation behind fed factors": (node("Gemm", [(4, 32), (32, 16)], then="Relu"), {}),
    "a bias beyond 32 bits": (node("Gemm", [(4, 32), weights(32, 16), GREAT]), {"weights": {1: 1}}),
    "a batch with scales": (node("MatMul", [(2, 4, 32), weights(2, 32, 16)]), {"weights": {1: 2}}),
}


@pytest.mark.parametrize("case", FLOAT_ISLANDS)
def test_what_has_no_int8_kernel_is_float_and_as_exact(case: str) -> None:
    model, how = FLOAT_ISLANDS[case]
    qdq = quantized(model, **how)
    found = run(qdq, feeds_of(qdq))
    for got, expected in zip(found.got, found.expected, strict=True):
        steps = np.unique(np.abs(expected[0]))[1]
        assert np.abs(got[0] - expected[0]).max() <= steps * 1.01
        assert np.mean(got[0] == expected[0]) > 0.97
    assert "DEQUANTIZE" in found.ops[:-1]


EINSUM: dict[str, tuple[list[Any], list[str]]] = {
    "ij,jk->ik": ([(3, 4), (4, 5)], ["BATCH_MATMUL"]),
    "bqhd,bkhd->bhqk": ([(2, 3, 4, 8), (2, 5, 4, 8)], ["TRANSPOSE", "TRANSPOSE", "BATCH_MATMUL"]),
    "bhqk,bkhd->bqhd": ([(2, 4, 3, 5), (2, 5, 4, 8)], ["TRANSPOSE", "BATCH_MATMUL", "TRANSPOSE"]),
    "bsd,df->bsf": ([(2, 3, 4), weights(4, 5)], ["FULLY_CONNECTED"]),
    "abc,cbd->ad": ([(2, 3, 4), (4, 3, 5)], ["RESHAPE", "TRANSPOSE", "RESHAPE", "BATCH_MATMUL"]),
    "ij,jk": ([(3, 4), (4, 5)], ["BATCH_MATMUL"]),
    "i,j->ij": ([(3,), (4,)], ["RESHAPE", "RESHAPE", "BATCH_MATMUL"]),
    "bij,bj->bi": ([(2, 3, 4), (2, 4)], ["RESHAPE", "BATCH_MATMUL", "RESHAPE"]),
}


@pytest.mark.parametrize("equation", EINSUM)
def test_einsum(equation: str) -> None:
    inputs, ops = EINSUM[equation]
    assert check_float(node("Einsum", inputs, equation=equation)).ops == ops


@pytest.mark.parametrize(
    ("equation", "inputs", "because"),
    [
        ("ii->i", [(3, 3)], "two operands"),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], "two operands"),
        ("iij,jk->ik", [(3, 3, 4), (4, 5)], "twice"),
        ("ijk,kl->il", [(2, 3, 4), (4, 5)], "summed"),
        ("...ij,jk->...ik", [(2, 3, 4), (4, 5)], "ellipsis"),
    ],
)
def test_einsum_that_is_no_product_is_refused(equation: str, inputs: list[Any], because: str) -> None:
    refused(node("Einsum", inputs, equation=equation), because)


def test_more_axes_than_the_kernel_takes_are_refused() -> None:
    refused(node("MatMul", [(1, 1, 1, 1, 2, 3), (1, 1, 1, 1, 3, 2)]), "BATCH_MATMUL takes 5 axes")


def chain(nodes: list[onnx.NodeProto], shapes: list[tuple[int, ...]], **constants: np.ndarray) -> onnx.ModelProto:
    """A float model of several nodes that reads x0, x1, ... and writes y."""
    fed = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(shapes)]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "chain", fed, [helper.make_empty_tensor_value_info("y")], stored)
    return inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def test_a_linear_layer_behind_a_flatten_reads_channels_last() -> None:
    nodes = [
        helper.make_node("Conv", ["x0", "w"], ["a"], name="conv"),
        helper.make_node("Flatten", ["a"], ["b"], name="flatten"),
        helper.make_node("Gemm", ["b", "v"], ["y"], name="gemm", transB=1),
    ]
    model = chain(nodes, [(2, 3, 6, 7)], w=weights(4, 3, 3, 3), v=weights(5, 80))
    assert check_float(model).ops == ["TRANSPOSE", "CONV_2D", "FULLY_CONNECTED"]


def test_a_linear_layer_of_codes_behind_a_flatten_reads_channels_last() -> None:
    nodes = [
        helper.make_node("Conv", ["x0", "w"], ["a"], name="conv"),
        helper.make_node("Flatten", ["a"], ["b"], name="flatten"),
        helper.make_node("Gemm", ["b", "v"], ["y"], name="gemm", transB=1),
    ]
    source = chain(nodes, [(2, 3, 6, 7)], w=weights(4, 3, 3, 3), v=weights(5, 80))
    model, used, feeds = ir.from_proto(source), contract(load_target("raspberry-pi-5")), feeds_of(source)
    plan = annotate(model.graph, used)
    observers, _ = calibrate(model, list(plan.values), [Batch(sample, 2, None) for sample in feeds], "minmax")
    qdq = insert(model, assign_ranges(plan, model.graph, used, observers, "minmax"), used)
    found = run(ir.to_proto(qdq), feeds)
    assert found.ops == ["QUANTIZE", "TRANSPOSE", "CONV_2D", "FULLY_CONNECTED", "DEQUANTIZE"]
    for got, expected in zip(found.got, found.expected, strict=True):
        assert np.mean(got[0] == expected[0]) > 0.9
        assert np.abs(got[0] - expected[0]).max() < 1.01 * np.diff(np.unique(expected[0])).min()


def test_a_linear_layer_reads_before_a_reshape_that_makes_rows_of_axes() -> None:
    nodes = [
        helper.make_node("Mul", ["x0", "x0"], ["a"], name="mul"),
        helper.make_node("Reshape", ["a", "shape"], ["b"], name="reshape"),
        helper.make_node("Gemm", ["b", "v"], ["y"], name="gemm"),
    ]
    model = chain(nodes, [(2, 3, 32)], shape=np.array([6, 32], np.int64), v=weights(32, 5))
    assert check_float(model).ops == ["MUL", "FULLY_CONNECTED"]


def test_a_reshape_that_mixes_rows_and_columns_is_written() -> None:
    nodes = [
        helper.make_node("Transpose", ["x0"], ["a"], name="transpose", perm=[0, 2, 1]),
        helper.make_node("Reshape", ["a", "shape"], ["b"], name="reshape"),
        helper.make_node("Gemm", ["b", "v"], ["y"], name="gemm"),
    ]
    model = chain(nodes, [(2, 3, 8)], shape=np.array([4, 12], np.int64), v=weights(12, 5))
    assert check_float(model).ops == ["TRANSPOSE", "RESHAPE", "FULLY_CONNECTED"]


@pytest.mark.parametrize(("perm", "transposes"), [((0, 1, 3, 2), 0), ((0, 2, 3, 1), 1), ((0, 2, 1, 3), 1)])
def test_a_transposed_factor_is_multiplied_as_it_lies(perm: tuple[int, ...], transposes: int) -> None:
    nodes = [
        helper.make_node("Transpose", ["x1"], ["a"], name="transpose", perm=perm),
        helper.make_node("MatMul", ["x0", "a"], ["y"], name="matmul"),
    ]
    shape = (2, 3, 4, 5)
    model = chain(nodes, [(2, shape[perm[1]], 7, shape[perm[2]]), shape])
    assert check_float(model).ops == ["TRANSPOSE"] * transposes + ["BATCH_MATMUL"]


def test_attention_transposes_each_factor_once() -> None:
    split, joined = np.array([2, 5, 3, 4], np.int64), np.array([10, 12], np.int64)
    nodes, constants = [], {"split": split, "joined": joined, "out": weights(12, 12)}
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        constants[f"{name}_weight"] = weights(12, 12)
        nodes += [
            helper.make_node("Gemm", ["x0", f"{name}_weight"], [f"{name}_rows"], name=f"{name}_rows"),
            helper.make_node("Reshape", [f"{name}_rows", "split"], [f"{name}_heads"], name=f"{name}_heads"),
            helper.make_node("Transpose", [f"{name}_heads"], [name], name=name, perm=perm),
        ]
    nodes += [
        helper.make_node("MatMul", ["q", "k"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["shares"], name="shares"),
        helper.make_node("MatMul", ["shares", "v"], ["mixed"], name="mixed"),
        helper.make_node("Transpose", ["mixed"], ["back"], name="back", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["back", "joined"], ["rows"], name="rows"),
        helper.make_node("Gemm", ["rows", "out"], ["y"], name="out"),
    ]
    found = check_float(chain(nodes, [(10, 12)], **constants))
    assert (found.ops.count("TRANSPOSE"), found.ops.count("RESHAPE")) == (4, 3)


def test_versions_are_the_lowest() -> None:
    def version(model: onnx.ModelProto) -> int:
        from ai_edge_litert import schema_py_generated as schema

        content, _ = emit(ir.from_proto(model))
        assert [op for op, _, _ in operators(content)] == ["FULLY_CONNECTED"]
        return int(schema.Model.GetRootAs(content, 0).OperatorCodes(0).Version())

    assert version(node("Gemm", [(4, 32), weights(32, 16)])) == 1
    assert version(node("MatMul", [(2, 4, 32), weights(32, 16)])) == 5
