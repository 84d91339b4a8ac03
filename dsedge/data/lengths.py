"""Lengths that a graph imposes on open axes of its inputs.

Exporters are often told that every axis is dynamic. Then the weights that an input meets say how many channels or
features it must have.
"""

from __future__ import annotations

import onnx_ir as ir

Order = tuple[int | None, ...]
"""For each axis of a value, which axis of the input it is; None where it is another one."""

_KEEPS = frozenset(
    "Cast Identity Relu LeakyRelu Clip Sigmoid Tanh Neg Abs Exp Log Sqrt Dropout QuantizeLinear DequantizeLinear "
    "MaxPool AveragePool Pad Resize".split()
)
_BINARY = frozenset("Add Sub Mul Div PRelu Pow".split())
_FORWARDS = frozenset("Cast Identity QuantizeLinear DequantizeLinear".split())


def imposed_lengths(value: ir.Value) -> dict[int, int]:
    """Axis of a graph input -> the length that its consumers need; only axes for which they do."""
    found: dict[int, int] = {}
    if value.shape is None:
        return found
    seen: set[ir.Value] = set()
    walk: list[tuple[ir.Value, Order]] = [(value, tuple(range(len(value.shape))))]
    while walk:
        v, order = walk.pop()
        if v in seen:
            continue
        seen.add(v)
        for node, index in v.uses():
            if node.domain not in ("", "ai.onnx"):
                continue
            for axis, length in _needed(node, index, len(order)).items():
                source = order[axis] if -len(order) <= axis < len(order) else None
                if source is not None:
                    found.setdefault(source, length)
            behind = _behind(node, index, order)
            if behind is not None:
                walk.append((node.outputs[0], behind))
    return found


def _needed(node: ir.Node, index: int, rank: int) -> dict[int, int]:
    """Axis of input `index` of a node -> the length that its weights fix."""
    shapes = [_weight_shape(value) for value in node.inputs]

    def weight(position: int, least_rank: int) -> tuple[int, ...] | None:
        shape = shapes[position] if position < len(shapes) else None
        return shape if shape is not None and len(shape) >= least_rank else None

    match node.op_type, index:
        case "Conv", 0 if shape := weight(1, 3):
            return {1: shape[1] * node.attributes.get_int("group", 1)}
        case "ConvTranspose", 0 if shape := weight(1, 3):
            return {1: shape[0]}
        case (("BatchNormalization" | "InstanceNormalization"), 0) if shape := weight(1, 1):
            return {1: shape[0]}
        case "LayerNormalization", 0 if shape := weight(1, 1):
            return {-1: shape[-1]}
        case "MatMul", 0 if shape := weight(1, 2):
            return {-1: shape[-2]}
        case "MatMul", 1 if shape := weight(0, 2):
            return {-2: shape[-1]}
        case "Gemm", 0 if shape := weight(1, 2):
            return {0 if node.attributes.get_int("transA", 0) else 1: shape[node.attributes.get_int("transB", 0)]}
        case (("LSTM" | "GRU" | "RNN"), 0) if shape := weight(1, 3):
            return {2: shape[2]}
        case (("LSTM" | "GRU" | "RNN"), 5 | 6) if shape := weight(2, 3):
            return {0: shape[0], 1: 1, 2: shape[2]}  # one sample
        case op, 0 | 1 if op in _BINARY and (shape := weight(1 - index, 1)):
            return {axis: shape[axis] for axis in range(-min(len(shape), rank), 0) if shape[axis] > 1}
    return {}


def _weight_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    while value is not None and ir.convenience.get_const_tensor(value) is None:
        maker = value.producer()
        if maker is None or maker.op_type not in _FORWARDS:
            return None
        value = maker.inputs[0]
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tuple(tensor.shape.numpy())


def _behind(node: ir.Node, index: int, order: Order) -> Order | None:
    """The axes of a node's first output; None where they cannot be followed."""
    if node.op_type in _KEEPS and index == 0:
        return order
    if node.op_type in _BINARY:
        other = node.inputs[1 - index]
        rank = 0 if other is None or other.shape is None else len(other.shape)
        shape = _weight_shape(other)
        return order if max(rank, len(shape or ())) <= len(order) else None
    if node.op_type == "Transpose":
        perm = node.attributes.get_ints("perm", tuple(reversed(range(len(order)))))
        return tuple(order[axis] for axis in perm) if sorted(perm) == list(range(len(order))) else None
    if node.op_type == "Unsqueeze" and index == 0:
        axes = node.attributes.get_ints("axes", ()) or _constant_ints(node, 1)
        rank = len(order) + len(axes)
        inserted = {axis % rank for axis in axes}
        rest = iter(order)
        return tuple(None if axis in inserted else next(rest) for axis in range(rank)) if axes else None
    return None


def _constant_ints(node: ir.Node, index: int) -> tuple[int, ...]:
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return () if tensor is None else tuple(int(axis) for axis in tensor.numpy().ravel())
