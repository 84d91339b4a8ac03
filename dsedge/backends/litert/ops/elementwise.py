"""Arithmetic, element by element; every operator takes any order of axes.

Where TFLite has an INT8 kernel that tflite-runtime 2.14 lacks and XNNPACK does not run (SQRT, LOG, DIV), or one that is
wrong (NEG negates the codes, whatever their zero point), the operator computes in float, or as a product with a number:
XNNPACK then runs it together with what is around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op, dtype_of
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.ops.broadcast import broadcast, number, takes
from dsedge.quant.plan import QParams

Emit = Callable[[Emitter, ir.Node], None]

NUMBERS = "float32 int32 int64"


def unary(name: str, types: str = "float32", options: str | None = None, **fields: Any) -> Emit:
    """An operator of one input."""

    def emit(e: Emitter, node: ir.Node) -> None:
        if not e.is_int8(node):
            takes(node, 0, name, types)
        x = e.placed(node, 0)
        e.op(name, [x.tensor], [e.output(node, x.order)], e.options(options, **fields) if options else None)

    return emit


def binary(name: str, options: str, types: str = NUMBERS, *, fused: bool = False) -> Emit:
    """An operator of two inputs that broadcast."""

    def emit(e: Emitter, node: ir.Node) -> None:
        if not e.is_int8(node):
            takes(node, 0, name, types)
        fields = {"fusedActivationFunction": e.activation(node)} if fused else {}
        broadcast(e, node, (0, 1), lambda read, out: e.op(name, read, [out], e.options(options, **fields)))

    return emit


def chain(name: str, options: str, types: str = NUMBERS, *, mean: bool = False) -> Emit:
    """An operator of any number of inputs that broadcast, two at a time; divided by their number when `mean`."""

    def emit(e: Emitter, node: ir.Node) -> None:
        if not e.is_int8(node):
            takes(node, 0, name, types)
        if len(node.inputs) == 1:
            return e.alias(node, e.placed(node, 0))

        def write(read: list[Tensor], out: Tensor) -> None:
            total = read[0]
            for k, x in enumerate(read[1:], 2):
                shape = np.broadcast_shapes(total.shape, x.shape)
                target = e.temporary("partial", shape, out) if mean or k < len(read) else out
                e.op(name, [total, x], [target], e.options(options))
                total = target
            if mean:
                product(e, total, 1 / len(read), out)

        return broadcast(e, node, range(len(node.inputs)), write)

    return emit


def product(e: Emitter, x: Tensor, factor: float, out: Tensor, activation: int = 0) -> None:
    """x times a number; among codes it is 1 or -1 under a scale of its own."""
    if out.qparams is None:
        times = e.constant("factor", np.array(factor, out.dtype))
    else:
        params = QParams(np.array(abs(factor), np.float32), np.array(0, np.int8), "int8")
        times = e.constant("factor", np.array(-1 if factor < 0 else 1, np.int8), params)
    e.op("MUL", [x, times], [out], e.options("MulOptions", fusedActivationFunction=activation))


def negative(e: Emitter, node: ir.Node) -> None:
    """Neg: NEG, of codes a product with -1."""
    if not e.is_int8(node):
        return unary("NEG", NUMBERS, "NegOptions")(e, node)
    x = e.placed(node, 0)
    return product(e, x.tensor, -1.0, e.output(node, x.order))


def divide(e: Emitter, node: ir.Node) -> None:
    """Div: DIV, of codes a product with the inverse."""
    divisor = number(node, 1)
    if divisor is None or not e.is_int8(node):
        return binary("DIV", "DivOptions", "float32 int32", fused=True)(e, node)
    x = e.placed(node, 0)
    return product(e, x.tensor, 1 / divisor, e.output(node, x.order), e.activation(node))


def reciprocal(e: Emitter, node: ir.Node) -> None:
    """Reciprocal: DIV."""
    takes(node, 0, "DIV", "float32")
    x = e.placed(node, 0)
    one = e.constant("one", np.array(1, np.float32))
    e.op("DIV", [one, x.tensor], [e.output(node, x.order)], e.options("DivOptions"))


def power(e: Emitter, node: ir.Node) -> None:
    """Pow: products for 2 and 3, SQRT and RSQRT for 0.5 and -0.5, all of which XNNPACK runs, else POW."""
    exponent = number(node, 1)
    if exponent is None:
        return _general_power(e, node)
    if not e.is_int8(node):
        takes(node, 0, "POW", "float32 int32" if exponent >= 0 and exponent.is_integer() else "float32")
    x = e.placed(node, 0)
    out = e.output(node, x.order)
    if exponent in (0.5, -0.5):
        return e.op("SQRT" if exponent > 0 else "RSQRT", [x.tensor], [out])
    if exponent not in (2.0, 3.0):
        to = e.constant("exponent", np.array(exponent, x.tensor.dtype))
        return e.op("POW", [x.tensor, to], [out], e.options("PowOptions"))
    square = out if exponent == 2.0 else e.temporary("square", out.shape, out)
    e.op("MUL", [x.tensor, x.tensor], [square], e.options("MulOptions"))
    return None if exponent == 2.0 else e.op("MUL", [square, x.tensor], [out], e.options("MulOptions"))


def _general_power(e: Emitter, node: ir.Node) -> None:
    assert node.inputs[0] is not None and node.inputs[1] is not None
    if dtype_of(node.inputs[0]) != dtype_of(node.inputs[1]):
        raise CannotEmit("its base and its exponents are of two types")
    binary("POW", "PowOptions", "float32")(e, node)  # of integers it refuses negative exponents as it meets them


def modulo(e: Emitter, node: ir.Node) -> None:
    """Mod: FLOOR_MOD, whose sign is the divisor's; with `fmod` of the magnitudes, and then the dividend's sign."""
    if not node.attributes.get_int("fmod", 0):
        return binary("FLOOR_MOD", "FloorModOptions", "int32 int64")(e, node)
    takes(node, 0, "ABS", "float32 int32")

    def write(read: list[Tensor], out: Tensor) -> None:
        sizes = [e.temporary("magnitude", x.shape, x) for x in read]
        for x, size in zip(read, sizes, strict=True):
            e.op("ABS", [x], [size])
        rest, sign = e.temporary("rest", out.shape, out), e.temporary("sign", read[0].shape, read[0])
        e.op("FLOOR_MOD", sizes, [rest], e.options("FloorModOptions"))
        e.op("SIGN", [read[0]], [sign], e.options("SignOptions"))
        e.op("MUL", [rest, sign], [out], e.options("MulOptions"))

    return broadcast(e, node, (0, 1), write)


def _divides(node: ir.Node) -> str | None:
    return None if number(node, 1) else "among codes it divides by a number only"


def _squares(node: ir.Node) -> str | None:
    return None if number(node, 1) == 2.0 else "among codes it only squares"


def _of_two(node: ir.Node) -> str | None:
    return None if len(node.inputs) == 2 else "among codes it adds two, more would be rounded in between"


OPS = {
    "Add": Op(binary("ADD", "AddOptions", fused=True), codes=None, fuses=True),
    "Mul": Op(binary("MUL", "MulOptions", fused=True), codes=None, fuses=True),
    "Sub": Op(binary("SUB", "SubOptions", fused=True), codes=None, fuses=True),
    "Div": Op(divide, codes=(0,), fuses=True, refuses=_divides),
    "Pow": Op(power, codes=(0,), refuses=_squares),
    "Mod": Op(modulo),
    "Min": Op(chain("MINIMUM", "MaximumMinimumOptions"), codes=None, same=True),
    "Max": Op(chain("MAXIMUM", "MaximumMinimumOptions"), codes=None, same=True),
    "Sum": Op(chain("ADD", "AddOptions"), codes=None, refuses=_of_two),
    "Mean": Op(chain("ADD", "AddOptions", "float32", mean=True)),
    "Neg": Op(negative, codes=(0,)),
    "Abs": Op(unary("ABS", "float32 int32"), codes=(0,)),
    "Exp": Op(unary("EXP", options="ExpOptions"), codes=(0,)),
    "Sqrt": Op(unary("SQRT")),
    "Reciprocal": Op(reciprocal),
    "Log": Op(unary("LOG")),
    "Sin": Op(unary("SIN")),
    "Cos": Op(unary("COS")),
    "Floor": Op(unary("FLOOR")),
    "Ceil": Op(unary("CEIL")),
    "Round": Op(unary("ROUND")),
    "Sign": Op(unary("SIGN", "float32 int32", "SignOptions")),
}
