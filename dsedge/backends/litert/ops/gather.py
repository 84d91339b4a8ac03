"""Gather: along one axis, and from tables of INT8 rows."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import constant_of, parameters, signed
from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op, Placed
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.ops.select import wrapped
from dsedge.backends.litert.ops.slicing import cut


def gather(e: Emitter, node: ir.Node) -> None:
    """Gather: GATHER; SLICE where the indices are constant and follow each other."""
    assert node.inputs[0] is not None and node.inputs[1] is not None
    shape, rank = e.shape(node.inputs[0]), len(e.shape(node.inputs[1]))
    axis = node.attributes.get_int("axis", 0) % len(shape)
    if _is_stored(e, node):
        _gather_rows(e, node, axis)
        return
    x = e.placed(node, 0)
    at = x.order.index(axis)
    order: list[int] = []
    for a in x.order:
        order += range(axis, axis + rank) if a == axis else [a if a < axis else a + rank - 1]
    picked = e.array(node, 1) if constant_of(node.inputs[1]) is not None else None
    if picked is not None and picked.size and len(shape) <= 5:
        flat = picked.reshape(-1) % shape[axis]
        if np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)):
            taken = [range(n) for n in x.tensor.shape]
            taken[at] = range(int(flat[0]), int(flat[0]) + flat.size)
            _cut_to(e, node, x.tensor, taken, tuple(order))
            return
    indices = _indices(e, node, shape[axis])
    e.op("GATHER", [x.tensor, indices], [e.output(node, tuple(order))], e.options("GatherOptions", axis=at))


def _cut_to(e: Emitter, node: ir.Node, x: Tensor, taken: list[range], order: tuple[int, ...]) -> None:
    """Write a part of `x`, in the shape of the node's result."""
    shape = e.shape(node.outputs[0])
    wanted = tuple(shape[axis] for axis in order)
    part = tuple(len(r) for r in taken)
    if part == wanted == x.shape:
        e.alias(node, Placed(x, order))
    elif part == wanted:
        cut(e, x, taken, e.output(node, order))
    else:
        piece = x
        if part != x.shape:
            piece = e.temporary("piece", part, x)
            cut(e, x, taken, piece)
        e.reshape(piece, e.output(node, order))


def _indices(e: Emitter, node: ir.Node, size: int) -> Tensor:
    """The indices of a Gather as a tensor."""
    found = wrapped(e, node, 1, (size,))
    return e.constant("indices", found) if isinstance(found, np.ndarray) else found


def _is_stored(e: Emitter, node: ir.Node) -> bool:
    """Whether a Gather reads real rows of a constant table of codes."""
    value = node.inputs[0]
    assert value is not None
    found = constant_of(value)
    return not e.is_int8(node) and found is not None and found[1] is not None


def _gather_rows(e: Emitter, node: ir.Node, axis: int) -> None:
    """Rows of a constant table of codes: picked as codes and made real afterwards, so the table stays small."""
    table, index = node.inputs[0], node.inputs[1]
    assert table is not None and index is not None
    found = constant_of(table)
    assert found is not None and found[1] is not None
    codes, params = signed(found[0], found[1])
    indices = _indices(e, node, codes.shape[axis])
    shape, rank = e.shape(node.outputs[0]), len(e.shape(index))
    options = e.options("GatherOptions", axis=axis)
    if params.axis is None:
        rows = e.constant(table.name or "", codes, params)
        picked = e.temporary("codes", shape, rows)
        e.op("GATHER", [rows, indices], [picked], options)
        e.dequantize(picked, e.output(node))
        return
    if params.zero_point.any():
        raise CannotEmit("the rows of its table have zero points of their own")
    rows = e.constant(table.name or "", codes)
    picked = e.temporary("codes", shape, rows)
    e.op("GATHER", [rows, indices], [picked], options)
    wide = e.flatbuffer.activation(f"{node.name}_real", shape, "float32")
    e.cast(picked, wide)
    sides = [1] * len(shape)
    if params.axis == axis:  # the scales are picked with their rows
        sides[axis : axis + rank] = e.shape(index)
        scales = e.constant(f"{table.name}_scales", params.scale)
        scale = e.temporary("scales", e.shape(index), scales)
        e.op("GATHER", [scales, indices], [scale], e.options("GatherOptions", axis=0))
        wider = e.temporary("scales_wide", sides, scales)
        e.reshape(scale, wider)
    else:
        sides[params.axis if params.axis < axis else params.axis + rank - 1] = -1
        wider = e.constant(f"{table.name}_scales", params.scale.reshape(sides))
    e.op("MUL", [wide, wider], [e.output(node)], e.options("MulOptions"))


def rows_of_codes(node: ir.Node) -> str | None:
    """Why the table of a Gather cannot be read as codes."""
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    params = parameters(producer)
    return "the rows of its table have scales of their own" if params is not None and params.axis is not None else None


OPS = {"Gather": Op(gather, codes=(0,), same=True, refuses=rows_of_codes)}
