"""What the runtime's kernels do not take is refused, or computed in another way, before the runtime sees it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends.litert.harness import check_float, feeds_of, inferred, node, refused, run

SEVEN = (1, 2, 3, 2, 2, 2, 2)
BOUND = np.array(np.inf, np.float32)


def graph(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...], *more: onnx.ValueInfoProto, **constants: object
) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    x, y = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape), helper.make_empty_tensor_value_info("y")
    proto = helper.make_graph(nodes, "g", [x, *more], [y], weights)
    return inferred(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def pair(source: str, target: str, scale: str = "s", zero: str = "z") -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [f"{target}_codes"], name=f"{target}_q"),
        helper.make_node("DequantizeLinear", [f"{target}_codes", scale, zero], [target], name=f"{target}_dq"),
    ]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (node("Softmax", [SEVEN]), "SOFTMAX takes 6 axes at most, here are 7"),
        (node("Relu", [(1,) * 9]), "RELU takes 8 axes at most, here are 9"),
        (node("Relu", [(2**16, 2**14)]), "takes 4.0 GiB"),
        (node("ArgMax", [(2, 3)], dtype=np.int64), "ARG_MAX has no kernel for int64"),
        (node("ReduceMax", [(2, 3)], dtype=np.bool_), "REDUCE_MAX has no kernel for bool"),
        (node("MatMul", [(2, 3), (3, 2)], dtype=np.int32), "BATCH_MATMUL has no kernel for int32"),
        (node("ReduceL2", [(2, 3)], dtype=np.int32), "SQRT has no kernel for int32"),
        (node("Pow", [(2, 3), (2, 3)], dtype=np.int32), "POW has no kernel for int32"),
    ],
)
def test_there_is_no_kernel(model: onnx.ModelProto, reason: str) -> None:
    refused(model, reason)


@pytest.mark.parametrize(("low", "high"), [(-BOUND, BOUND), (-BOUND, np.float32(1)), (np.float32(-1), BOUND)])
def test_infinite_bounds_cut_nothing_off(low: np.ndarray, high: np.ndarray) -> None:
    ops = check_float(node("Clip", [(2, 5), np.asarray(low), np.asarray(high)]), tolerance=0).ops
    assert len(ops) <= 1


def test_codes_without_a_zero_point_have_the_type_of_the_codes() -> None:
    """Not uint8, which is QuantizeLinear's default: codes below 0 would be others."""
    codes = np.random.default_rng(0).integers(-127, 128, (4, 4)).astype(np.int8)
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["v"]), helper.make_node("MatMul", ["x", "v"], ["y"])]
    check_float(graph(nodes, (2, 4), w=codes, s=np.float32(0.02)), tolerance=2e-2)


def test_a_product_far_above_its_result_is_computed_in_float() -> None:
    """XNNPACK refuses the file where a step of the accumulator is 256 of the result's."""
    nodes = [
        *pair("x", "d"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]),
        helper.make_node("MatMul", ["d", "v"], ["m"], name="n"),
        *pair("m", "y", "t"),
    ]
    codes = np.ones((4, 4), np.int8)
    small = graph(nodes, (2, 4), w=codes, s=np.float32(0.5), t=np.float32(0.5**2 / 300), z=np.int8(0))
    found = run(small, feeds_of(small))
    assert "FULLY_CONNECTED" in found.ops
    np.testing.assert_allclose(found.got[0][0], found.expected[0][0], atol=1e-3)


def test_an_average_over_less_than_its_window_under_another_scale_is_rounded_once() -> None:
    pool = helper.make_node("AveragePool", ["d"], ["m"], kernel_shape=[3, 3], auto_pad="SAME_UPPER", name="n")
    nodes = [*pair("x", "d"), pool, *pair("m", "y", "t")]
    model = graph(nodes, (1, 2, 6, 6), s=np.float32(0.02), t=np.float32(0.006), z=np.int8(0))
    found = run(model, feeds_of(model, low=-1, high=1))
    for got, expected in zip(found.got, found.expected, strict=True):
        assert np.abs(got[0] - expected[0]).max() <= 0.006 * 1.001


def test_of_two_orders_that_is_kept_which_moves_fewer_bytes() -> None:
    """A mask of booleans is transposed, and not the scores that it masks."""
    nodes = [
        helper.make_node("Transpose", ["mask"], ["m"], perm=[0, 3, 1, 2]),
        helper.make_node("Where", ["m", "x", "least"], ["y"]),
    ]
    mask = helper.make_tensor_value_info("mask", TensorProto.BOOL, (1, 5, 6, 2))
    model = graph(nodes, (1, 2, 5, 6), mask, least=np.float32(-5))
    found = run(model, feeds_of(model))
    assert [op for op in found.ops if op == "TRANSPOSE"] == ["TRANSPOSE"]
    np.testing.assert_array_equal(found.got[0][0], found.expected[0][0])
