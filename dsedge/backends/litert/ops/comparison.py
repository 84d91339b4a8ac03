"""Comparisons, logic, choice and Cast."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op, dtype_of
from dsedge.backends.litert.ops.broadcast import broadcast, takes
from dsedge.backends.litert.ops.elementwise import NUMBERS, Emit, binary, unary

_CASTS = "float32 int32 int64 bool int8 uint8 int16".split()


def compared(name: str, types: str) -> Emit:
    """A comparison; raw int8 and uint8 would end the process, their kernels want a scale."""
    return binary(name, "".join(word.title() for word in name.split("_")) + "Options", types)


def is_nan(e: Emitter, node: ir.Node) -> None:
    """IsNaN: what is not equal to itself."""
    takes(node, 0, "NOT_EQUAL", "float32")
    x = e.placed(node, 0)
    e.op("NOT_EQUAL", [x.tensor, x.tensor], [e.output(node, x.order)], e.options("NotEqualOptions"))


def is_inf(e: Emitter, node: ir.Node) -> None:
    """IsInf, of one sign or both."""
    takes(node, 0, "EQUAL", "float32")
    above, below = (node.attributes.get_int(f"detect_{sign}", 1) for sign in ("positive", "negative"))
    if not above and not below:
        raise CannotEmit("it looks for no infinity")
    x = e.placed(node, 0)
    source = x.tensor
    if above and below:
        source = e.temporary("magnitude", source.shape, source)
        e.op("ABS", [x.tensor], [source], e.options("AbsOptions"))
    infinity = e.constant("infinity", np.array(np.inf if above else -np.inf, np.float32))
    e.op("EQUAL", [source, infinity], [e.output(node, x.order)], e.options("EqualOptions"))


def where(e: Emitter, node: ir.Node) -> None:
    """Where: SELECT_V2."""
    if not e.is_int8(node):
        takes(node, 1, "SELECT_V2", " ".join(_CASTS))
    options = e.options("SelectV2Options")
    broadcast(e, node, (0, 1, 2), lambda read, out: e.op("SELECT_V2", read, [out], options))


def cast(e: Emitter, node: ir.Node) -> None:
    """Cast: CAST, nothing between equal types."""
    assert node.inputs[0] is not None
    kinds = [dtype_of(value) for value in (node.inputs[0], node.outputs[0])]
    for kind in kinds:
        if kind not in _CASTS:
            raise CannotEmit(f"TFLite's CAST has no kernel for {kind}")
    x = e.placed(node, 0)
    if kinds[0] == kinds[1]:
        return e.alias(node, x)
    return e.cast(x.tensor, e.output(node, x.order))


OPS = {
    "Equal": Op(compared("EQUAL", f"{NUMBERS} bool")),
    "Greater": Op(compared("GREATER", NUMBERS)),
    "GreaterOrEqual": Op(compared("GREATER_EQUAL", NUMBERS)),
    "Less": Op(compared("LESS", NUMBERS)),
    "LessOrEqual": Op(compared("LESS_EQUAL", NUMBERS)),
    "And": Op(binary("LOGICAL_AND", "LogicalAndOptions", "bool")),
    "Or": Op(binary("LOGICAL_OR", "LogicalOrOptions", "bool")),
    "Xor": Op(compared("NOT_EQUAL", "bool")),
    "Not": Op(unary("LOGICAL_NOT", "bool", "LogicalNotOptions")),
    "IsNaN": Op(is_nan),
    "IsInf": Op(is_inf),
    "Where": Op(where, codes=(1, 2), same=True),
    "Cast": Op(cast),
}
