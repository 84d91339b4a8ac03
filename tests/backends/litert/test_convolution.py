"""Conv and ConvTranspose."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from dsedge.backends.litert.emit import emit
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.versions import version_of
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


Case = tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], list[str]]
"""Shapes of the input and of the weight, attributes, what is written between the graph's input and output."""

SAME, PADDED, DEPTHWISE = ["CONV_2D"], ["PAD", "CONV_2D"], ["DEPTHWISE_CONV_2D"]
CONV: dict[str, Case] = {
    "same": ((2, 4, 8, 8), (6, 4, 3, 3), {"pads": [1, 1, 1, 1], "then": "Relu"}, SAME),
    "valid": ((1, 4, 8, 8), (6, 4, 3, 3), {"then": "Clip:0,6"}, SAME),
    "stride on odd size": ((1, 4, 9, 9), (6, 4, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}, SAME),
    "stride on even size": ((1, 4, 8, 8), (6, 4, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}, PADDED),
    "padding of no use": ((1, 4, 7, 7), (6, 4, 2, 2), {"pads": [0, 0, 1, 1], "strides": [3, 3]}, SAME),
    "asymmetric": ((1, 4, 8, 9), (6, 4, 3, 2), {"pads": [0, 2, 1, 0], "strides": [2, 1]}, PADDED),
    "point, stride": ((1, 4, 7, 7), (6, 4, 1, 1), {"strides": [2, 2]}, SAME),
    "dilated": ((1, 4, 12, 12), (6, 4, 3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, SAME),
    "dilated, stride": ((1, 4, 12, 12), (6, 4, 3, 2), {"dilations": [2, 3], "strides": [1, 2]}, SAME),
    "upper": ((1, 4, 9, 8), (6, 4, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, SAME),
    "lower": ((1, 4, 9, 8), (6, 4, 3, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, PADDED),
    "auto valid": ((1, 4, 9, 8), (6, 4, 3, 3), {"auto_pad": "VALID"}, SAME),
    "groups": ((1, 6, 12, 12), (6, 2, 3, 3), {"group": 3, "dilations": [2, 2], "strides": [2, 2]}, SAME),
    "depthwise": ((1, 4, 8, 8), (4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1], "then": "Clip:0,6"}, DEPTHWISE),
    "depthwise, two each": ((1, 4, 9, 9), (8, 1, 3, 3), {"group": 4, "pads": [1] * 4, "strides": [2, 1]}, DEPTHWISE),
    "depthwise, dilated": (
        (1, 4, 12, 12),
        (4, 1, 3, 3),
        {"group": 4, "dilations": [2, 2], "strides": [2, 2]},
        DEPTHWISE,
    ),
    "sequence": ((2, 4, 20), (6, 4, 3), {"pads": [1, 1], "then": "Relu"}, ["RESHAPE", *SAME, "RESHAPE"]),
    "causal": ((1, 4, 20), (6, 4, 3), {"pads": [4, 0], "dilations": [2]}, ["RESHAPE", *PADDED, "RESHAPE"]),
    "depthwise sequence": ((1, 4, 21), (4, 1, 3), {"group": 4, "strides": [2]}, ["RESHAPE", *DEPTHWISE, "RESHAPE"]),
}

WHOLE, CUT = ["TRANSPOSE_CONV"], ["TRANSPOSE_CONV", "SLICE"]
TRANSPOSED: dict[str, Case] = {
    "twice": ((2, 4, 5, 6), (4, 6, 2, 2), {"strides": [2, 2], "then": "Relu"}, WHOLE),
    "same": ((1, 4, 5, 6), (4, 6, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, WHOLE),
    "output padding": ((1, 4, 5, 6), (4, 6, 3, 3), {"strides": [2, 2], "output_padding": [1, 1]}, WHOLE),
    "both": (
        (1, 4, 5, 6),
        (4, 6, 3, 3),
        {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1], "then": "Clip:0,6"},
        CUT,
    ),
    "asymmetric": ((1, 4, 5, 6), (4, 6, 3, 4), {"strides": [3, 2], "pads": [0, 1, 2, 1]}, CUT),
    "kernel below stride": ((1, 4, 5, 6), (4, 6, 2, 2), {"strides": [3, 3]}, WHOLE),
    "upper": ((1, 4, 5, 6), (4, 6, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, WHOLE),
    "lower": ((1, 4, 5, 6), (4, 6, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}, CUT),
    "shape": ((1, 4, 5, 6), (4, 6, 3, 3), {"strides": [2, 2], "output_shape": [10, 12]}, CUT),
    "greater shape": ((1, 4, 5, 6), (4, 6, 3, 3), {"strides": [2, 2], "output_shape": [12, 14]}, WHOLE),
    "dilated": ((1, 4, 5, 6), (4, 6, 3, 3), {"strides": [2, 2], "dilations": [2, 2]}, WHOLE),
    "sequence": ((1, 4, 5), (4, 6, 4), {"strides": [2], "pads": [1, 1]}, ["RESHAPE", *WHOLE, "RESHAPE"]),
}


def trunk(ops: list[str]) -> list[str]:
    """Without what the graph's own inputs and outputs need."""
    return [op for op in ops if op not in ("TRANSPOSE", "QUANTIZE", "DEQUANTIZE")]


@pytest.mark.parametrize("name", CONV)
@pytest.mark.parametrize("biased", [True, False])
def test_conv(name: str, biased: bool) -> None:
    """In float and on codes, with whatever padding and steps."""
    shape, weight, attributes, written = CONV[name]
    model = node("Conv", [shape, weights(*weight), *([weights(weight[0])] if biased else [])], **attributes)
    assert trunk(check_float(model).ops) == written
    if biased:
        found = check_int8(model, weights={1: 0}, bias=2, exact=0.98)
        assert trunk(found.ops) == written


@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose(name: str) -> None:
    """SAME or VALID where they are the padding, a part of VALID elsewhere."""
    shape, weight, attributes, written = TRANSPOSED[name]
    model = node("ConvTranspose", [shape, weights(*weight), weights(weight[1])], **attributes)
    assert trunk(check_float(model).ops) == written
    assert trunk(check_int8(model, weights={1: 1}, bias=2, exact=0.98).ops) == written


@pytest.mark.parametrize(("group", "weight"), [(2, (4, 3, 2, 2)), (4, (4, 1, 2, 2))])
def test_a_grouped_transposed_convolution_has_zeros_between_groups(group: int, weight: tuple[int, ...]) -> None:
    """TFLite has no groups there."""
    model = node("ConvTranspose", [(1, 4, 5, 6), weights(*weight)], strides=[2, 2], group=group)
    check_float(model)
    check_int8(model, weights={1: None}, exact=0.98)


@pytest.mark.parametrize("group", [1, 2])
def test_three_axes_of_space_are_float(group: int) -> None:
    """CONV_3D has no INT8 kernel: what the graph says is computed between conversions."""
    model = node(
        "Conv", [(1, 4, 5, 6, 6), weights(6, 4 // group, 3, 3, 3)], group=group, pads=[1] * 6, strides=[1, 2, 2]
    )
    assert trunk(check_float(model).ops) == ["PAD", "CONV_3D"]
    qdq = quantized(model, weights={1: 0})
    found = run(qdq, feeds_of(qdq))
    for got, expected in zip(found.got, found.expected, strict=True):
        np.testing.assert_allclose(got[0], expected[0], rtol=0, atol=1e-5)


def test_one_scale_for_all_channels() -> None:
    """Of weights."""
    check_int8(node("Conv", [(1, 4, 8, 8), weights(6, 4, 3, 3), weights(6)]), weights={1: None}, bias=2, exact=0.98)
    depthwise = node("Conv", [(1, 4, 8, 8), weights(4, 1, 3, 3), weights(4)], group=4)
    check_int8(depthwise, weights={1: None}, bias=2, exact=0.98)


def on_codes(zero_point: int = 0, axis: int = 0, factor: float = 1.0, dtype: Any = np.int8) -> onnx.ModelProto:
    """A Conv from int8 to int8 codes, with a float bias."""
    array = weights(4, 4, 4, 3) * np.float32(factor)
    scale = (np.abs(array).max(axis=tuple(a for a in range(4) if a != axis)) / 100).astype(np.float32)
    codes = np.rint(array / scale.reshape([-1 if a == axis else 1 for a in range(4)])) + zero_point
    constants = {
        "w": codes.astype(dtype),
        "ws": scale,
        "wz": np.full(4, zero_point, dtype),
        "b": weights(4),
        "s": np.float32(0.05),
        "z": np.int8(3),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["real"], name="dx"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["weight"], name="dw", axis=axis),
        helper.make_node("Conv", ["real", "weight", "b"], ["sum"], name="n"),
        helper.make_node("QuantizeLinear", ["sum", "s", "z"], ["y"], name="q"),
    ]
    infos = [helper.make_tensor_value_info("x", TensorProto.INT8, (1, 4, 8, 8))]
    outputs = [helper.make_empty_tensor_value_info("y")]
    kept = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "codes", infos, outputs, kept)
    return inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def test_convolutions_over_a_sequence_in_a_row() -> None:
    """One axis of space counts as two from the first to the last."""
    model = node("Conv", [(1, 4, 20), weights(4, 4, 3)], pads=[1, 1], then="Relu")
    second = helper.make_node("Conv", ["z", "x1"], ["last"], name="second")
    model.graph.node.append(second)
    model.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("last"))
    found = check_float(inferred(model))
    assert trunk(found.ops) == ["RESHAPE", "CONV_2D", "CONV_2D", "RESHAPE"]


@pytest.mark.parametrize(
    ("how", "int8"),
    [
        ({}, True),
        ({"zero_point": 7}, False),
        ({"axis": 1}, False),
        ({"axis": 2}, False),
        ({"factor": 1e-7}, False),
        ({"dtype": np.int16}, False),
    ],
    ids=["plain", "zero point of weights", "scales of inputs", "scales of rows", "bias beyond 32 bits", "int16"],
)
def test_what_no_kernel_computes_on_codes_is_float(how: dict[str, Any], int8: bool) -> None:
    """Exactly what the graph says, rather than an overflow or another zero point."""
    model = on_codes(**how)
    content, _ = emit(ir.from_proto(model))
    reads = next(inputs for op, inputs, _ in operators(content) if op == "CONV_2D")
    assert (reads[0] == "INT8") is int8
    feeds = [{"x": np.random.default_rng(1).integers(-128, 128, (1, 4, 8, 8)).astype(np.int8)}]
    found = run(model, feeds)
    assert np.abs(found.got[0][0].astype(int) - found.expected[0][0]).max() <= 1


def test_refusals() -> None:
    """Each says why."""
    volume = [(1, 4, 5, 5, 5), weights(4, 6, 2, 2, 2)]
    refused(node("ConvTranspose", volume), "3 axes of space")
    cropping = node("Conv", [(1, 4, 5, 5), weights(6, 4, 2, 2)], pads=[1, 0, 0, 0])
    next(a for a in cropping.graph.node[0].attribute if a.name == "pads").ints[0] = -1
    refused(cropping, "negative")
    refused(node("ConvTranspose", [(1, 4, 5, 5), (4, 6, 2, 2)]), "its weight is computed at run time")
    far = [(1, 4, 5, 5), weights(4, 6, 2, 2)]
    refused(node("ConvTranspose", far, dilations=[2, 2], output_padding=[1, 1]), "output_padding")


def test_a_weight_that_is_computed() -> None:
    """CONV_2D takes it where nothing has to be rewritten."""
    check_float(node("Conv", [(1, 4, 8, 8), (6, 4, 3, 3)]))


def test_versions() -> None:
    """The lowest that expresses each."""

    def tensor(dtype: str, *shape: int) -> Tensor:
        return Tensor(0, shape, dtype, None, False)

    class Options:
        dilationHFactor = dilationWFactor = 1
        fusedActivationFunction = 0

    dilated, fused = Options(), Options()
    dilated.dilationWFactor, fused.fusedActivationFunction = 2, 1
    x, w, shape = tensor("float32", 1, 8, 8, 4), tensor("float32", 6, 3, 3, 4), tensor("int32", 4)
    narrow, codes = tensor("float32", 6, 3, 3, 2), tensor("int8", 1, 8, 8, 4)
    for op, inputs, options, version in [
        ("CONV_2D", [x, w], Options(), 1),
        ("CONV_2D", [codes, codes], Options(), 3),
        ("CONV_2D", [x, narrow], Options(), 6),
        ("DEPTHWISE_CONV_2D", [x, w], Options(), 1),
        ("DEPTHWISE_CONV_2D", [x, w], dilated, 2),
        ("DEPTHWISE_CONV_2D", [codes, codes], dilated, 3),
        ("TRANSPOSE_CONV", [shape, w, x], Options(), 1),
        ("TRANSPOSE_CONV", [shape, codes, codes], Options(), 2),
        ("TRANSPOSE_CONV", [shape, w, x, x], Options(), 3),
        ("TRANSPOSE_CONV", [shape, w, x, x], fused, 4),
    ]:
        assert version_of(op, inputs, [x], options) == version, (op, version)
