"""MaxPool, AveragePool and the global ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.backends.litert.harness import check_float, check_int8, feeds_of, inferred, node, quantized, refused, run

Case = tuple[tuple[int, ...], dict[str, Any], list[str]]
"""Shape of the input, attributes, what is written on codes between the graph's input and output."""

WIDE = (2, 8, 8, 8)
POOL, PADDED, FLAT = ["MAX_POOL_2D"], ["PADV2", "MAX_POOL_2D"], ["RESHAPE", "MAX_POOL_2D", "RESHAPE"]
TWICE = ["RESHAPE", "MAX_POOL_2D", "RESHAPE", "PADV2", "MAX_POOL_2D", "RESHAPE"]
MAX: dict[str, Case] = {
    "halves": (WIDE, {"kernel_shape": [2, 2], "strides": [2, 2]}, POOL),
    "keeps": (WIDE, {"kernel_shape": [5, 5], "pads": [2] * 4}, POOL),
    "odd": ((1, 8, 9, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, POOL),
    "even": (WIDE, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, PADDED),
    "fused": (WIDE, {"kernel_shape": [3, 3], "then": "Relu"}, POOL),
    "ceil": (WIDE, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, POOL),
    "ceil on one axis": ((1, 8, 9, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, PADDED),
    "upper": ((1, 8, 9, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, POOL),
    "lower": ((1, 8, 9, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}, PADDED),
    "picks": (WIDE, {"kernel_shape": [1, 1], "strides": [2, 2]}, POOL),
    "sequence": ((2, 8, 9), {"kernel_shape": [3], "strides": [2]}, FLAT),
    "volume": ((1, 3, 6, 8, 8), {"kernel_shape": [3, 2, 2], "strides": [2, 2, 2], "pads": [1, 0, 0, 1, 0, 0]}, TWICE),
}

INSIDE, BY_WINDOW = ["AVERAGE_POOL_2D"], ["DEPTHWISE_CONV_2D"]
OTHER = ["PAD", "AVERAGE_POOL_2D", "MUL"]
AVERAGE: dict[str, Case] = {
    "halves": (WIDE, {"kernel_shape": [2, 2], "strides": [2, 2]}, BY_WINDOW),
    "fused": (WIDE, {"kernel_shape": [2, 2], "then": "Relu"}, BY_WINDOW),
    "border out": (WIDE, {"kernel_shape": [3, 3], "pads": [1] * 4}, INSIDE),
    "border in": (WIDE, {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}, BY_WINDOW),
    "even, border in": (
        WIDE,
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "count_include_pad": 1},
        ["PAD", *BY_WINDOW],
    ),
    "even, border out": (WIDE, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, OTHER),
    "ceil": (WIDE, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, INSIDE),
    "ceil, border in": (
        (1, 8, 8, 9),
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1] * 4, "count_include_pad": 1},
        OTHER,
    ),
    "upper": ((1, 8, 9, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, INSIDE),
    "lower": ((1, 8, 9, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}, OTHER),
    "sequence": ((2, 8, 9), {"kernel_shape": [3], "strides": [2]}, ["RESHAPE", *BY_WINDOW, "RESHAPE"]),
    "volume": (
        (1, 3, 6, 8, 8),
        {"kernel_shape": [3, 2, 2], "strides": [1, 2, 2], "pads": [1, 0, 0, 1, 0, 0]},
        ["RESHAPE", "AVERAGE_POOL_2D", "RESHAPE", "AVERAGE_POOL_2D", "RESHAPE"],
    ),
}


def trunk(ops: list[str]) -> list[str]:
    """Without what the graph's own inputs and outputs need."""
    return [op for op in ops if op not in ("TRANSPOSE", "QUANTIZE", "DEQUANTIZE")]


@pytest.mark.parametrize("name", MAX)
def test_max(name: str) -> None:
    """Padding is never the greatest."""
    shape, attributes, written = MAX[name]
    model = node("MaxPool", [shape], **attributes)
    below = feeds_of(model, low=-3.0, high=-1.0)
    assert trunk(check_float(model, below, tolerance=0).ops) == written
    assert trunk(check_int8(model, same=True, steps=0).ops) == written
    check_int8(model, low=-3.0, high=-1.0)


def test_padding_with_zero_where_nothing_is_less() -> None:
    """XNNPACK takes PAD, and not PADV2: behind a Relu both are the same, in float and on codes."""
    attributes: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    model = node("MaxPool", [WIDE], **attributes)
    assert "PAD" in check_int8(model, same=True, steps=0, low=0.0, high=2.0).ops
    nodes = [helper.make_node("Relu", ["x0"], ["r"], name="r"), *model.graph.node]
    nodes[1].input[0] = "r"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert "PAD" in check_float(inferred(model), tolerance=0).ops


@pytest.mark.parametrize("name", AVERAGE)
def test_average(name: str) -> None:
    """Whatever it is divided by: at most one step apart, under one scale or two."""
    shape, attributes, written = AVERAGE[name]
    model = node("AveragePool", [shape], **attributes)
    check_float(model)
    for same in (True, False):
        qdq = quantized(model, same=same, low=-1.0)
        found = run(qdq, feeds_of(qdq, low=-1.0))
        assert trunk(found.ops) == written
        name_of_scale = f"{qdq.graph.output[0].name}_scale"
        scale = next(numpy_helper.to_array(c) for c in qdq.graph.initializer if c.name == name_of_scale)
        for got, expected in zip(found.got, found.expected, strict=True):
            assert np.rint(np.abs(got[0] - expected[0]) / scale).max() <= 1


@pytest.mark.parametrize("shape", [(2, 8, 7), (2, 8, 7, 5), (1, 8, 3, 4, 5)])
def test_global(shape: tuple[int, ...]) -> None:
    """Over one, two and three axes of space."""
    average = node("GlobalAveragePool", [shape])
    assert check_float(average).ops == ["MEAN"]  # no order of axes is better than another
    check_int8(average, allow=["RESHAPE"])
    greatest = node("GlobalMaxPool", [shape])
    check_float(greatest, tolerance=0)
    check_int8(greatest, same=True, steps=0, allow=["RESHAPE"])


def test_refusals() -> None:
    """Each says why."""
    refused(node("MaxPool", [WIDE], kernel_shape=[2, 2], dilations=[2, 2]), "dilations")
    refused(node("MaxPool", [WIDE], 2, kernel_shape=[2, 2]), "indices")
    refused(node("LpPool", [WIDE], kernel_shape=[2, 2]), "TFLite has no operator for it")
