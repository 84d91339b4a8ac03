"""What LSTM, GRU and RNN share: their axes, weights and activation functions, and the operators they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import constant_of, signed
from dsedge.backends.litert.emitter import CannotEmit, Emitter, Order, dtype_of
from dsedge.backends.litert.flatbuffer import Tensor

_LAYOUTS = ({"X": "TNC", "Y": "TDNH", "S": "DNH"}, {"X": "NTC", "Y": "NTDH", "S": "NDH"})
"""By ONNX's attribute `layout` the axes of inputs, outputs and states: time, direction, batch N, channel, unit H."""

_RELU = 1  # ActivationFunctionType in the schema
_FUNCTIONS = {"sigmoid": "LOGISTIC", "tanh": "TANH", "relu": "RELU"}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}

Function = tuple[str, float, float]
"""An activation function: its name in lower case, alpha and beta."""


@dataclass(frozen=True)
class Layer:
    """A recurrent node, read and checked.

    Attributes:
        node: in ONNX.
        steps, batch, hidden: lengths of the axes.
        reverse: for each direction whether it runs backwards.
        functions: for each direction its activation functions.
        clip: what bounds their inputs, 0 where nothing does.
    """

    node: ir.Node
    steps: int
    batch: int
    hidden: int
    reverse: tuple[bool, ...]
    functions: tuple[tuple[Function, ...], ...]
    clip: float

    def order(self, kind: str, axes: str) -> Order:
        """The order of a tensor with these axes that holds the input "X", the output "Y" or a state "S"."""
        given = _LAYOUTS[self.node.attributes.get_int("layout", 0)][kind]
        return tuple(given.index(axis) for axis in axes)

    def gives(self, index: int) -> bool:
        """Whether anything reads an output."""
        outputs = self.node.outputs
        return index < len(outputs) and bool(outputs[index].uses() or outputs[index].is_graph_output())

    def takes(self, index: int) -> bool:
        """Whether there is an input."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None


def read(e: Emitter, node: ir.Node, gates: int, defaults: Sequence[str]) -> Layer:
    """Read a recurrent node.

    Args:
        e: the emitter.
        node: LSTM, GRU or RNN.
        gates: how many rows of W and R a hidden unit has.
        defaults: names of its activation functions where it gives none.

    Raises:
        CannotEmit: it does what is not written here, or its inputs do not fit each other.
    """
    value, weight, attributes = node.inputs[0], node.inputs[2], node.attributes
    assert value is not None and weight is not None
    if dtype_of(value) != "float32":
        raise CannotEmit(f"it computes in {dtype_of(value)}, TFLite's recurrent layers in float32")
    direction, layout = attributes.get_string("direction", "forward"), attributes.get_int("layout", 0)
    shape = e.shape(value)
    if direction not in _DIRECTIONS or layout not in (0, 1) or len(shape) != 3 or 0 in shape:
        raise CannotEmit(f"direction {direction!r} and layout {layout} on an input {shape} have no meaning")
    reverse = _DIRECTIONS[direction]
    lengths = dict(zip(_LAYOUTS[layout]["X"], shape, strict=True)) | {
        "D": len(reverse),
        "H": (e.shape(weight) or (0,))[-1],
    }
    d, units, rows = lengths["D"], lengths["H"], gates * lengths["H"]
    state = tuple(lengths[axis] for axis in _LAYOUTS[layout]["S"])
    wanted = (
        shape,
        (d, rows, lengths["C"]),
        (d, rows, units),
        (d, 2 * rows),
        (lengths["N"],),
        state,
        state,
        (d, 3 * units),
    )
    for i, (given, expected) in enumerate(zip(node.inputs, wanted, strict=False)):
        if given is not None and e.shape(given) != expected:
            raise CannotEmit(f"input {i} has the shape {e.shape(given)} instead of {expected}")
    ends = e.array(node, 4)
    if ends is not None and np.any(ends != lengths["T"]):
        raise CannotEmit("the sequences of a batch have different lengths")
    functions = _functions(node, defaults, len(reverse))
    return Layer(node, lengths["T"], lengths["N"], units, reverse, functions, attributes.get_float("clip", 0.0))


def _functions(node: ir.Node, defaults: Sequence[str], directions: int) -> tuple[tuple[Function, ...], ...]:
    names = list(node.attributes.get_strings("activations", ())) or [*defaults] * directions
    alphas, betas = (list(node.attributes.get_floats(f"activation_{p}", ())) for p in ("alpha", "beta"))
    found: list[Function] = []
    for name in (given.lower() for given in names):
        if name == "hardsigmoid":
            found.append((name, alphas.pop(0) if alphas else 0.2, betas.pop(0) if betas else 0.5))
        elif name in _FUNCTIONS:
            found.append((name, 0.0, 0.0))
        else:
            raise CannotEmit(f"its activation function is {name}, here Sigmoid, Tanh, Relu and HardSigmoid are written")
    count = len(defaults)
    if len(found) != count * directions:
        raise CannotEmit(f"it has {len(found)} activation functions instead of {count * directions}")
    return tuple(tuple(found[d * count : (d + 1) * count]) for d in range(directions))


def matrix(e: Emitter, node: ir.Node, index: int, direction: int, rows: slice) -> Tensor:
    """Some rows of a weight [directions, rows, columns]: INT8 codes under one scale, else float32.

    Other codes (a scale for each row, a zero point that is not 0) are written as the numbers that they stand for: of
    the kernels that take float activations, the old ones know one scale only.
    """
    value = node.inputs[index]
    found = constant_of(value) if value is not None else None
    if found is None:
        raise CannotEmit(f"input {index}, its weights, is computed at run time")
    codes, params = found
    name = f"{node.name or ''}_{'W' if index == 1 else 'R'}{direction}_{rows.start}"
    if params is None and codes.dtype != np.float16:
        return e.constant(name, codes[direction, rows])
    if params is not None:
        codes, params = signed(codes, params)
        if params.axis is not None or params.dtype != "int8" or params.zero_point.any():
            real = e.array(node, index)
            assert real is not None
            return e.constant(name, real[direction, rows])
        return e.constant(name, codes[direction, rows], params)
    half = e.constant(name, codes[direction, rows])
    return apply(e, "DEQUANTIZE", [half], "DequantizeOptions")


def vector(e: Emitter, node: ir.Node, index: int, direction: int, size: int) -> np.ndarray:
    """A bias or peephole of one direction, zeros where the node has none: float32 [size]."""
    array = e.array(node, index)
    return np.zeros(size, np.float32) if array is None else array[direction].astype(np.float32)


def apply(
    e: Emitter, name: str, inputs: Sequence[Tensor], kind: str | None = None, shape: Sequence[int] = (), **fields: Any
) -> Tensor:
    """An operator with one float32 result, of the shape of its first input where no other is given."""
    # A short name of its own: an unrolled layer has thousands of them, and the file holds each.
    out = e.flatbuffer.activation(f"t{len(e.written)}", shape or inputs[0].shape, "float32")
    e.op(name, inputs, [out], e.options(kind, **fields) if kind else None)
    return out


def add(e: Emitter, a: Tensor, b: Tensor) -> Tensor:
    """a + b; b may be wider than a by no axis."""
    return apply(e, "ADD", [a, b], "AddOptions")


def multiply(e: Emitter, a: Tensor, b: Tensor) -> Tensor:
    """a * b."""
    return apply(e, "MUL", [a, b], "MulOptions")


def activate(e: Emitter, function: Function, x: Tensor, clip: float = 0.0) -> Tensor:
    """An activation function, its input kept within +-clip where that is not 0."""
    name, alpha, beta = function
    if clip:
        x = apply(e, "MINIMUM", [x, scalar(e, clip)], "MaximumMinimumOptions")
        x = apply(e, "MAXIMUM", [x, scalar(e, -clip)], "MaximumMinimumOptions")
    if name != "hardsigmoid":
        return apply(e, _FUNCTIONS[name], [x])
    x = multiply(e, x, scalar(e, alpha))
    x = apply(e, "ADD", [x, scalar(e, beta)], "AddOptions", fusedActivationFunction=_RELU)
    return apply(e, "MINIMUM", [x, scalar(e, 1.0)], "MaximumMinimumOptions")


def scalar(e: Emitter, number: float) -> Tensor:
    """A constant."""
    return e.constant("number", np.array(number, np.float32))


def fully_connected(e: Emitter, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [..., inputs] times weight [outputs, inputs] and a bias: [rows, outputs]."""
    rows = int(np.prod(x.shape[:-1]))
    return apply(e, "FULLY_CONNECTED", [x, weight, bias], "FullyConnectedOptions", (rows, weight.shape[0]))


def reshaped(e: Emitter, x: Tensor, shape: Sequence[int]) -> Tensor:
    """x in another shape."""
    if x.shape == tuple(shape):
        return x
    out = e.flatbuffer.activation(f"t{len(e.written)}", shape, "float32")
    e.reshape(x, out)
    return out


def split(e: Emitter, x: Tensor, parts: int, axis: int) -> list[Tensor]:
    """x cut into equal parts."""
    if parts == 1:
        return [x]
    shape = list(x.shape)
    shape[axis] //= parts
    outs = [e.flatbuffer.activation(f"t{len(e.written)}_{i}", shape, "float32") for i in range(parts)]
    e.op("SPLIT", [e.constant("axis", np.array(axis, np.int32)), x], outs, e.options("SplitOptions", numSplits=parts))
    return outs


def joined(e: Emitter, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Parts of one shape after each other."""
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] *= len(parts)
    return apply(e, "CONCATENATION", parts, "ConcatenationOptions", shape, axis=axis)
