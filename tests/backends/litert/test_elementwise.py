"""Arithmetic with every form of broadcasting, in float, on integers, and on codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dsedge.backends.litert.emit import emit
from dsedge.backends.litert.read import read
from tests.backends.litert.broadcasts import SHAPES, held_last
from tests.backends.litert.harness import (
    check_float,
    check_int8,
    feeds_of,
    node,
    operators,
    quantized,
    refused,
)

RNG = np.random.default_rng(0)


def constant(shape: tuple[int, ...], low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """A constant; zero where it could divide is the caller's affair."""
    return np.asarray(RNG.uniform(low, high, shape), np.float32)


@pytest.mark.parametrize(("first", "second"), SHAPES)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max", "Pow", "Sum", "Mean"])
def test_broadcasts_in_float(op: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Constants on either side, and two that are fed."""
    low = 0.5 if op in ("Div", "Pow") else -2.0
    for inputs in ([first, second], [first, constant(second, low)], [constant(first, low), second]):
        model = node(op, inputs)
        check_float(model, feeds_of(model, low=low))


@pytest.mark.parametrize(("first", "second"), SHAPES)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Min", "Max"])
def test_broadcasts_among_codes(op: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """One code apart at most, and none where codes are only compared."""
    same = op in ("Min", "Max")
    exact = 1.0 if same else 0.95
    check_int8(node(op, [first, second]), same=same, exact=exact)
    check_int8(node(op, [first, constant(second)]), weights={1: None}, same=same, exact=exact)
    check_int8(node(op, [constant(first), second]), weights={0: None}, same=same, exact=exact)


@pytest.mark.parametrize("second", [(), (3, 1, 1), (5,), (4, 1), (2, 1, 4, 5)])
@pytest.mark.parametrize("op", ["Add", "Sub", "Div", "Max"])
def test_takes_the_order_that_is_held(op: str, second: tuple[int, ...]) -> None:
    """Behind a convolution only what it does not say itself is transposed, and constants never at run time."""
    fed = held_last(node(op, [(2, 3, 4, 5), second]))
    check_float(fed, feeds_of(fed, low=0.5))
    found = check_float(held_last(node(op, [(2, 3, 4, 5), constant(second, 0.5)])))
    assert found.ops.count("TRANSPOSE") == 2
    assert "RESHAPE" not in found.ops


def test_a_smaller_input_is_transposed_rather_than_the_larger() -> None:
    """Of two orders that of the larger input stays."""
    model = held_last(node("Mul", [(1, 8, 6, 6), (1, 8, 1, 6)]))
    found = check_float(model)
    assert found.ops.count("TRANSPOSE") == 3


@pytest.mark.parametrize("then", ["Relu", "Clip:0,6", "Clip:-1,1"])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_takes_the_activation_behind_it(op: str, then: str) -> None:
    """One operator in the file."""
    model = node(op, [(2, 3, 4), (2, 3, 4)], then=then)
    assert check_float(model, feeds_of(model, low=0.5)).ops == [op.upper()]
    if op != "Div":
        found = check_int8(model, exact=0.95)
        assert found.ops == ["QUANTIZE", "QUANTIZE", op.upper(), "DEQUANTIZE"]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max", "Mod", "Neg", "Abs", "Sign"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers(op: str, dtype: type) -> None:
    """Integers that TFLite has kernels for, and the reason where it has none."""
    inputs: list[Any] = [(2, 3)] if op in ("Neg", "Abs", "Sign") else [(2, 3), np.array([3, -2, 4], dtype)]
    model = node(op, inputs, dtype=dtype)
    if dtype == np.int64 and op in ("Div", "Abs", "Sign"):
        refused(model, "no kernel for int64")
    else:
        check_float(model)


@pytest.mark.parametrize("op", ["Neg", "Abs", "Exp", "Sin", "Cos", "Floor", "Ceil", "Round", "Sign"])
def test_of_one_input(op: str) -> None:
    """Halves and signed zeros too."""
    model = node(op, [(2, 3, 5)])
    edges = np.array([-1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5] * 4 + [0.0, 1.0], np.float32).reshape(2, 3, 5)
    check_float(model, [{"x0": edges}, *feeds_of(model)])


@pytest.mark.parametrize("op", ["Sqrt", "Log", "Reciprocal"])
def test_of_one_positive_input(op: str) -> None:
    """Where the function is defined."""
    model = node(op, [(2, 3, 5)])
    check_float(model, feeds_of(model, low=0.01, high=9.0))


@pytest.mark.parametrize(("op", "exact"), [("Neg", 1.0), ("Abs", 1.0), ("Exp", 1.0)])
def test_of_one_input_among_codes(op: str, exact: float) -> None:
    """Also where zero lies at an end of the codes."""
    for low, high in ((-2.0, 2.0), (-1.0, 3.0), (0.0, 4.0)):
        check_int8(node(op, [(16, 16)]), low=low, high=high, exact=exact)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, -0.5, -1.0, 1.7])
def test_powers(exponent: float) -> None:
    """Of a number, also one of another type."""
    model = node("Pow", [(2, 3), np.array(exponent, np.float32)])
    check_float(model, feeds_of(model, low=0.1))
    if exponent.is_integer():
        model = node("Pow", [(2, 3), np.array([int(exponent)])])
        check_float(model, feeds_of(model, low=0.1))


def test_integer_powers() -> None:
    """Of integers only those that are integers."""
    check_float(node("Pow", [(2, 3), np.array(4, np.int32)], dtype=np.int32))
    refused(node("Pow", [(2, 3), np.array(0.5, np.float32)], dtype=np.int32), "no kernel for int32")
    refused(node("Pow", [(2, 3), np.array([1, 2, 3])]), "of two types")


@pytest.mark.parametrize(
    ("op", "operand"), [("Pow", 2.0), ("Div", 3.0), ("Div", -0.7)], ids=["square", "division", "negative"]
)
def test_numbers_among_codes(op: str, operand: float) -> None:
    """A square and a division by a number are products of codes."""
    found = check_int8(node(op, [(16, 16), np.array(operand, np.float32)]), exact=0.95)
    assert found.ops == ["QUANTIZE", "MUL", "DEQUANTIZE"]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_remainders_of_the_dividend_s_sign(dtype: type) -> None:
    """What C's fmod gives."""
    check_float(node("Mod", [(4, 5), np.array([3, -2, 4, 5, -7], dtype)], dtype=dtype, fmod=1))


@pytest.mark.parametrize("op", ["Min", "Max", "Sum", "Mean"])
def test_any_number_of_inputs(op: str) -> None:
    """One, three, and the same one several times."""
    check_float(node(op, [(2, 3)]))
    check_float(node(op, [(2, 3), (3,), (2, 1)]))
    model = node(op, [(2, 3), (2, 3), (2, 3)])
    model.graph.node[0].input[2] = "x1"
    check_float(model, [dict(feeds, x2=feeds["x1"]) for feeds in feeds_of(model)])
    if op in ("Min", "Max"):
        check_int8(node(op, [(2, 3), (3,), (2, 1)]), same=True, exact=1.0)


def test_a_sum_of_three_codes_is_rounded_once() -> None:
    """In float, because two additions of codes round twice."""
    content, _ = emit(ir.from_proto(quantized(node("Sum", [(2, 3), (2, 3), (2, 3)]))))
    assert [kinds for op, kinds, _ in operators(content) if op == "ADD"] == [["FLOAT32", "FLOAT32"]] * 2


@pytest.mark.parametrize(
    ("model", "version"),
    [
        (node("Add", [(2,), (2,)]), 1),
        (node("Add", [(2,), (2,)], dtype=np.int64), 4),
        (node("Mul", [(2,), (2,)], dtype=np.int64), 5),
        (node("Abs", [(2,)], dtype=np.int32), 5),
        (quantized(node("Sub", [(2,), (2,)])), 2),
        (quantized(node("Mul", [(2, 9), (2, 9)])), 2),
        (quantized(node("Div", [(2, 9), np.array(0.01, np.float32)])), 3),
        (quantized(node("LeakyRelu", [(2,)])), 1),
        (node("Cast", [(2,)], to=onnx.TensorProto.INT8), 3),
    ],
)
def test_lowest_version(tmp_path: Path, model: onnx.ModelProto, version: int) -> None:
    """Old runtimes refuse a version that they do not know; XNNPACK's MUL wants 3 where it rescales by one or more."""
    path = tmp_path / "model.tflite"
    path.write_bytes(emit(ir.from_proto(model))[0])
    found = {o.op: o.version for o in read(path) if o.op not in ("QUANTIZE", "DEQUANTIZE")}
    assert list(found.values()) == [version]


@pytest.mark.parametrize(
    ("model", "because"),
    [
        (node("Add", [(2,), (2,)], dtype=np.uint8), "no kernel for uint8"),
        (node("Mul", [(2,), (2,)], dtype=np.float64), "for which TFLite has no kernels"),
        (node("Add", [(2, 1) * 5, (1, 2) * 5]), "over 10 axes"),
    ],
    ids=["uint8", "float64", "axes"],
)
def test_refuses(model: onnx.ModelProto, because: str) -> None:
    """In words, before the runtime ends the process."""
    refused(model, because)
