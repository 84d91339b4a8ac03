"""Activations in float and on codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from dsedge.backends.litert.emit import emit
from tests.backends.litert.broadcasts import held_last
from tests.backends.litert.harness import check_float, check_int8, feeds_of, node, operators, quantized, run

SHAPE = (2, 3, 4, 5)
FLOAT: list[tuple[str, dict[str, Any]]] = [
    ("Relu", {}),
    ("LeakyRelu", {}),
    ("LeakyRelu", {"alpha": -1.5}),
    ("Elu", {}),
    ("Elu", {"alpha": 1.7}),
    ("Selu", {}),
    ("Selu", {"alpha": 0.5, "gamma": 2.0}),
    ("Celu", {}),
    ("Celu", {"alpha": 0.4}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("HardSigmoid", {}),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    ("HardSigmoid", {"alpha": 0.7, "beta": -0.2}),
    ("HardSwish", {}),
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
    ("Mish", {}),
    ("Erf", {}),
]


@pytest.mark.parametrize(("op", "attributes"), FLOAT, ids=[f"{op} {list(a.values())}" for op, a in FLOAT])
def test_in_float(op: str, attributes: dict[str, Any]) -> None:
    """Near zero, in the middle and where exponentials overflow."""
    opset = 22 if op == "Celu" else 20
    model = node(op, [SHAPE], opset=opset, **attributes)
    zeros = {"x0": np.zeros(SHAPE, np.float32)}
    samples = [zeros, *(f for high in (1e-3, 3.0, 20.0, 200.0) for f in feeds_of(model, low=-high, high=high))]
    for feeds in samples:
        check_float(model, [feeds])


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_swish(alpha: float) -> None:
    """As two operators; ONNX has it from opset 24 on."""
    model = node("Swish", [SHAPE], opset=24, alpha=alpha)
    content, _ = emit(ir.from_proto(model))
    assert [op for op, *_ in operators(content)] == ["MUL"] * (alpha != 1.0) + ["LOGISTIC", "MUL"]


@pytest.mark.parametrize(
    ("low", "high", "ops"),
    [
        (0.0, 6.0, ["RELU6"]),
        (-1.0, 1.0, ["RELU_N1_TO_1"]),
        (0.0, 1.0, ["MAXIMUM", "MINIMUM"]),
        (0.0, None, ["RELU"]),
        (None, 0.5, ["MINIMUM"]),
        (-0.3, None, ["MAXIMUM"]),
        (None, None, []),
    ],
)
def test_clip_in_float(low: float | None, high: float | None, ops: list[str]) -> None:
    """Any bounds, and the operator that has them."""
    ends = [None if end is None else np.array(end, np.float32) for end in (low, high)]
    model = node("Clip", [SHAPE, *ends])
    assert check_float(model, feeds_of(model, low=-8.0, high=8.0)).ops == ops


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_clip_of_integers(dtype: type) -> None:
    """To bounds that float32 does not hold."""
    top = np.iinfo(dtype).max
    check_float(node("Clip", [(2, 3), np.array(-2, dtype), np.array(top - 1, dtype)], dtype=dtype))
    if dtype == np.int32:  # ONNX Runtime has no other
        check_float(node("Relu", [(2, 3)], dtype=dtype))


def test_clip_to_what_is_computed() -> None:
    """Bounds that are fed."""
    model = node("Clip", [SHAPE, (), ()])
    check_float(
        model, [{**f, "x1": np.array(-1, np.float32), "x2": np.array(0.5, np.float32)} for f in feeds_of(model)]
    )


def pinned(model: onnx.ModelProto, low: float, high: float) -> onnx.ModelProto:
    """A Q/DQ graph whose output codes span a range that does not end where the operator's does."""
    found = quantized(model, low=-4.0, high=8.0)
    for each in found.graph.initializer:
        if each.name.endswith("y0_scale"):
            each.CopyFrom(numpy_helper.from_array(np.array((high - low) / 255, np.float32), each.name))
        elif each.name.endswith("y0_zero"):
            zero = np.array(round(-128 - low / ((high - low) / 255)), np.int8)
            each.CopyFrom(numpy_helper.from_array(zero, each.name))
    return found


@pytest.mark.parametrize(
    ("op", "ends", "inside"),
    [
        ("Relu", (), ["MUL"]),
        ("Clip", (0.0, 6.0), ["MUL"]),
        ("Clip", (-1.0, 1.0), ["MUL"]),
        ("Clip", (-0.5, 2.0), ["QUANTIZE", "MAXIMUM", "MINIMUM"]),
    ],
)
def test_clipping_codes(op: str, ends: tuple[float, ...], inside: list[str]) -> None:
    """A product that clips where the schema has the bounds or the codes end there, two comparisons elsewhere."""
    model = node(op, [(8, 8, 8), *(np.array(end, np.float32) for end in ends)])
    found = check_int8(model, low=-4.0, high=8.0, exact=0.99)
    assert found.ops[1:-1] in (["MUL"], inside)
    qdq = pinned(model, -3.0, 9.0)
    result = run(qdq, feeds_of(qdq, seed=2, low=-4.0, high=8.0))
    assert result.ops == ["QUANTIZE", *inside, "DEQUANTIZE"]
    np.testing.assert_allclose(result.got, result.expected, rtol=0, atol=1e-6)


def test_clipping_codes_to_where_they_end() -> None:
    """Under one scale that is nothing at all."""
    found = check_int8(node("Relu", [(4, 4)]), same=True, low=0.0, high=3.0, exact=1.0)
    assert found.ops == ["QUANTIZE", "DEQUANTIZE"]


@pytest.mark.parametrize("slopes", [(), (1,), (3, 1, 1), (5,), (4, 5)], ids=str)
def test_slopes(slopes: tuple[int, ...]) -> None:
    """One, one a channel, and others; in the order in which the input is held."""
    slope = np.asarray(np.random.default_rng(0).uniform(0.01, 0.5, slopes), np.float32)
    model = node("PRelu", [SHAPE, slope])
    check_float(model)
    found = check_float(held_last(model))
    assert found.ops.count("TRANSPOSE") == 2
    check_int8(model, weights={1: None}, exact=0.7)


LEAST = {"LeakyRelu": 0.7, "HardSwish": 0.98}


@pytest.mark.parametrize("op", ["LeakyRelu", "Elu", "Celu", "HardSwish", "Gelu", "Sigmoid", "Tanh"])
@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (-10.0, 3.0), (-1.0, 12.0)])
def test_on_codes(op: str, low: float, high: float) -> None:
    """Tables of 256 entries are exact; LeakyRelu rounds halves in another way."""
    fixed = {"Sigmoid": (1 / 256, -128), "Tanh": (1 / 128, 0)}.get(op)
    check_int8(node(op, [(16, 64)]), low=low, high=high, fixed=fixed, exact=LEAST.get(op, 1.0))


@pytest.mark.parametrize(("op", "attributes"), [("Elu", {"alpha": 1.7}), ("Selu", {}), ("Mish", {})])
def test_float_where_there_is_no_kernel_for_codes(op: str, attributes: dict[str, Any]) -> None:
    """A float island: exact, for it is what the graph says."""
    qdq = quantized(node(op, [(16, 16)], **attributes))
    island(qdq)


def island(qdq: onnx.ModelProto, low: float = -2.0, high: float = 2.0) -> None:
    """Check that the one operator computes in float."""
    found = run(qdq, feeds_of(qdq, low=low, high=high))
    np.testing.assert_allclose(found.got, found.expected, rtol=0, atol=1e-6)
    assert found.ops[:2] == ["QUANTIZE", "DEQUANTIZE"]


def test_float_where_the_kernel_for_codes_gives_up() -> None:
    """HARD_SWISH wants an output scale that is not far smaller than the input's, PRELU slopes of one scale."""
    island(quantized(node("HardSwish", [(16, 16)]), low=-40.0, high=-4.0), low=-40.0, high=-4.0)
    slopes = np.array([0.1, 0.2, 0.4], np.float32).reshape(3, 1, 1)
    island(quantized(node("PRelu", [SHAPE, slopes]), weights={1: 0}))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
def test_softmax_over_any_axis(op: str, axis: int) -> None:
    """Of an input held with channels last only another axis than the channels needs a transposition."""
    model = node(op, [SHAPE], axis=axis)
    check_float(model)
    found = check_float(held_last(model))
    assert found.ops.count("TRANSPOSE") == (2 if axis == 1 else 3)
    fixed = (1 / 256, -128) if op == "Softmax" else (16 / 256, 127)
    check_int8(model, fixed=fixed, exact=1.0, low=-8.0, high=8.0)


def test_softmax_of_a_vector() -> None:
    """One axis."""
    check_float(node("Softmax", [(7,)]))
