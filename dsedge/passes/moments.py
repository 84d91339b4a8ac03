"""How passes recognize a normalization written with ReduceMean: (x - mean) / sqrt(variance + epsilon)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.edit import array, ints, is_constant
from dsedge.passes.match import close, made_by, only_user, other, plus_scalar, scalar


@dataclass(frozen=True)
class Standardized:
    """The value (x - mean(x)) / sqrt(variance(x) + epsilon) * scale + bias, made by `node`.

    Attributes:
        axes: those that mean and variance are taken over, in order, counted from 0.
        scale, bias: constants that broadcast to x; None where there is none.
    """

    node: ir.Node
    x: ir.Value
    axes: tuple[int, ...]
    epsilon: float
    scale: ir.Value | None
    bias: ir.Value | None


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The constant axes that a reduction leaves with length 1, in order, counted from 0."""
    shape = dims(node.inputs[0]) if node.inputs[0] is not None else None
    axes = ints(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("axes")
    if shape is None or not axes or not node.attributes.get_int("keepdims", 1):
        return None
    return tuple(sorted(axis % len(shape) for axis in axes))


def standardized(sqrt: ir.Node) -> Standardized | None:
    """The normalization that a Sqrt is the standard deviation of, or None."""
    found = plus_scalar(sqrt.inputs[0])
    mean = made_by(found[0], "ReduceMean") if found is not None else None
    axes = reduced_axes(mean) if mean is not None else None
    deviation = _squared(mean.inputs[0]) if mean is not None else None
    difference = made_by(deviation, "Sub")
    x = difference.inputs[0] if difference is not None else None
    if found is None or axes is None or x is None or not _centered(deviation, x, axes):
        return None
    start = _divided(sqrt, x, axes)
    if start is None:
        return None
    node, done = start
    scale: ir.Value | None = None
    while (product := only_user(node.outputs[0], "Mul")) is not None:
        factor = other(product, node.outputs[0])
        if not done and _centered(factor, x, axes):
            done = True
        elif scale is None and is_constant(factor):
            scale = factor
        else:
            break
        node = product
    if not done:
        return _unrolled(node, x, axes, found[1], scale)
    add = only_user(node.outputs[0], "Add")
    bias = other(add, node.outputs[0]) if add is not None else None
    if add is None or not is_constant(bias):
        return Standardized(node, x, axes, found[1], scale, None)
    return Standardized(add, x, axes, found[1], scale, bias)


def over_axes(constant: ir.Value | None, x: ir.Value, axes: tuple[int, ...], default: float) -> np.ndarray | None:
    """A scale or bias as float32 over some axes of x, or None when it varies along others or they are not static."""
    shape = dims(x)
    lengths = [shape[axis] for axis in axes] if shape is not None else [None]
    if shape is None or not all(isinstance(length, int) for length in lengths):
        return None
    data = np.array(default, np.float32) if constant is None else array(constant)
    if data.ndim > len(shape):
        return None
    data = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
    if any(length != 1 for axis, length in enumerate(data.shape) if axis not in axes):
        return None
    target = [int(length) for length in lengths if isinstance(length, int)]
    data = data.reshape([data.shape[axis] for axis in axes])
    if any(a not in (1, b) for a, b in zip(data.shape, target, strict=True)):
        return None
    return np.ascontiguousarray(np.broadcast_to(data, target), np.float32)


def _squared(value: ir.Value | None) -> ir.Value | None:
    node = made_by(value, "Mul", "Pow")
    if node is None:
        return None
    square = node.inputs[0] is node.inputs[1] if node.op_type == "Mul" else scalar(node.inputs[1]) == 2.0
    return node.inputs[0] if square else None


def _is_mean(value: ir.Value | None, x: ir.Value, axes: tuple[int, ...]) -> bool:
    node = made_by(value, "ReduceMean")
    return node is not None and node.inputs[0] is x and reduced_axes(node) == axes


def _centered(value: ir.Value | None, x: ir.Value, axes: tuple[int, ...]) -> bool:
    """Whether a value is x minus its mean."""
    node = made_by(value, "Sub")
    return node is not None and node.inputs[0] is x and _is_mean(node.inputs[1], x, axes)


def _divided(sqrt: ir.Node, x: ir.Value, axes: tuple[int, ...]) -> tuple[ir.Node, bool] | None:
    """The node that divides by the standard deviation, and whether x - mean is what it divides."""
    node = only_user(sqrt.outputs[0], "Div", "Reciprocal")
    if node is None or node.inputs[-1] is not sqrt.outputs[0]:
        return None
    if node.op_type == "Reciprocal" or close(scalar(node.inputs[0]), 1.0):
        return node, False
    return (node, True) if _centered(node.inputs[0], x, axes) else None


def _unrolled(
    inverse: ir.Node, x: ir.Value, axes: tuple[int, ...], epsilon: float, scale: ir.Value | None
) -> Standardized | None:
    """The form of TensorFlow: x * i + (bias - mean * i), where i is scale / standard deviation."""
    value = inverse.outputs[0]
    users = [use.node for use in value.uses()]
    if len(users) != 2 or value.is_graph_output() or any(node.op_type != "Mul" for node in users):
        return None
    for scaled, shifted in (users, users[::-1]):
        sub = only_user(shifted.outputs[0], "Sub")
        add = only_user(sub.outputs[0], "Add") if sub is not None else None
        if sub is None or add is None or not is_constant(sub.inputs[0]) or sub.inputs[1] is not shifted.outputs[0]:
            continue
        if other(scaled, value) is not x or not _is_mean(other(shifted, value), x, axes):
            continue
        if other(add, sub.outputs[0]) is scaled.outputs[0]:
            return Standardized(add, x, axes, epsilon, scale, sub.inputs[0])
    return None
