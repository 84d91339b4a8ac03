"""Operators that pick or place by several indices: GatherND, GatherElements, ScatterND, OneHot, ReverseSequence."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import constant_of
from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op
from dsedge.backends.litert.flatbuffer import Tensor

_COUNTS = frozenset("ArgMax ArgMin TopK Shape Size".split())
"""Operators whose results are never negative."""


def wrapped(e: Emitter, node: ir.Node, index: int, sizes: tuple[int, ...]) -> np.ndarray | Tensor:
    """Indices without negative ones, since TFLite does not count from the end: an array where they are constant.

    Args:
        e: the emitter.
        node: has the indices.
        index: of the input that they are.
        sizes: of the axes that they index: one, or one for each column.
    """
    value = node.inputs[index]
    assert value is not None
    if constant_of(value) is not None:
        found = e.array(node, index)
        assert found is not None
        if ((found < -np.array(sizes)) | (found >= np.array(sizes))).any():
            raise CannotEmit("an index lies outside of its axis")
        return np.asarray(found % np.array(sizes), np.int32)
    x = e.tensor(node, index)
    if _counts(value):
        return x
    out = e.temporary("wrapped", x.shape, x)
    divisor = e.constant("sizes", np.array(sizes if len(sizes) > 1 else sizes[0], x.dtype))
    e.op("FLOOR_MOD", [x, divisor], [out], e.options("FloorModOptions"))
    return out


def _counts(value: ir.Value | None) -> bool:
    """Whether a value is never negative."""
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type in ("Cast", "Reshape", "Squeeze", "Unsqueeze"):
        return _counts(producer.inputs[0])
    return producer is not None and producer.op_type in _COUNTS


def gather_nd(e: Emitter, node: ir.Node) -> None:
    """GatherND: GATHER_ND; axes of the batch become indices."""
    assert node.inputs[0] is not None and node.inputs[1] is not None
    shape, batch = e.shape(node.inputs[0]), node.attributes.get_int("batch_dims", 0)
    picked = e.shape(node.inputs[1])
    found = wrapped(e, node, 1, shape[batch : batch + picked[-1]])
    _gather_at(e, node, found, picked, list(range(batch)), batch)


def gather_elements(e: Emitter, node: ir.Node) -> None:
    """GatherElements: GATHER_ND, with the indices of the other axes beside."""
    assert node.inputs[0] is not None and node.inputs[1] is not None
    shape, picked = e.shape(node.inputs[0]), e.shape(node.inputs[1])
    axis = node.attributes.get_int("axis", 0) % len(shape)
    found = wrapped(e, node, 1, (shape[axis],))
    _gather_at(e, node, found, (*picked, 1), [a for a in range(len(picked)) if a != axis], axis)


def _gather_at(
    e: Emitter, node: ir.Node, found: np.ndarray | Tensor, shape: tuple[int, ...], axes: list[int], at: int
) -> None:
    """GATHER_ND with indices [..., columns]; before and behind column `at` stand those of `axes` of the result."""
    grid = np.moveaxis(np.indices(shape[:-1], np.int32), 0, -1)
    before, after = grid[..., [a for a in axes if a < at]], grid[..., [a for a in axes if a >= at]]
    if isinstance(found, np.ndarray):
        indices = e.constant("indices", np.concatenate([before, found.reshape(shape), after], -1).astype(np.int32))
    else:
        column = found
        if found.shape != shape:
            column = e.temporary("column", shape, found)
            e.reshape(found, column)
        parts = [e.constant("grid", side.astype(found.dtype)) for side in (before, after)]
        parts = [part for part in (parts[0], column, parts[1]) if part.shape[-1]]
        indices = column
        if len(parts) > 1:
            indices = e.temporary("indices", [*shape[:-1], shape[-1] + len(axes)], column)
            e.op("CONCATENATION", parts, [indices], e.options("ConcatenationOptions", axis=len(shape) - 1))
    e.op("GATHER_ND", [e.tensor(node, 0), indices], [e.output(node)], e.options("GatherNdOptions"))


def scatter_nd(e: Emitter, node: ir.Node) -> None:
    """ScatterND: SCATTER_ND begins with zeros, so what it writes is added or selected; rows at constant places move."""
    assert node.inputs[0] is not None and node.inputs[1] is not None
    reduction = node.attributes.get_string("reduction", "none")
    if reduction not in ("none", "add"):
        raise CannotEmit(f"TFLite scatters without or with addition, not with {reduction!r}")
    shape, columns = e.shape(node.inputs[0]), e.shape(node.inputs[1])[-1]
    found = wrapped(e, node, 1, shape[:columns])
    if reduction == "none" and isinstance(found, np.ndarray):
        _replace_rows(e, node, found.reshape(-1, columns))
        return
    indices = e.constant("indices", found) if isinstance(found, np.ndarray) else found
    if indices.dtype == "int64":
        wide, indices = indices, e.flatbuffer.activation(f"{node.name}_indices", indices.shape, "int32")
        e.cast(wide, indices)
    data, updates = e.tensor(node, 0), e.tensor(node, 2)
    scattered = _scatter(e, indices, updates, e.temporary("scattered", shape, data))
    if reduction == "add":
        e.op("ADD", [data, scattered], [e.output(node)], e.options("AddOptions"))
        return
    ones = e.constant("ones", np.ones(updates.shape, np.int32))
    count = _scatter(e, indices, ones, e.temporary("count", shape, ones))
    written = e.flatbuffer.activation(f"{node.name}_written", shape, "bool")
    e.op("GREATER", [count, e.constant("zero", np.array(0, np.int32))], [written], e.options("GreaterOptions"))
    e.op("SELECT_V2", [written, scattered, data], [e.output(node)], e.options("SelectV2Options"))


def _scatter(e: Emitter, indices: Tensor, updates: Tensor, out: Tensor) -> Tensor:
    sizes = e.constant("shape", np.array(out.shape, np.int32))
    e.op("SCATTER_ND", [indices, updates, sizes], [out], e.options("ScatterNdOptions"))
    return out


def _replace_rows(e: Emitter, node: ir.Node, indices: np.ndarray) -> None:
    """A table of all rows, old and new, and a GATHER of those that the result has; of any type."""
    assert node.inputs[0] is not None
    shape, columns = e.shape(node.inputs[0]), indices.shape[1]
    kept, width = shape[:columns], math.prod(shape[columns:])
    rows = np.arange(math.prod(kept), dtype=np.int32)
    rows[np.ravel_multi_index(tuple(indices.T), kept)] = len(rows) + np.arange(len(indices))
    parts = []
    for i, count in ((0, len(rows)), (2, len(indices))):
        part = e.tensor(node, i)
        parts.append(e.temporary("rows", (count, width), part))
        e.reshape(part, parts[-1])
    table = e.temporary("table", (len(rows) + len(indices), width), parts[0])
    e.op("CONCATENATION", parts, [table], e.options("ConcatenationOptions", axis=0))
    picked = e.temporary("picked", (len(rows), width), table)
    e.op("GATHER", [table, e.constant("indices", rows)], [picked], e.options("GatherOptions", axis=0))
    e.reshape(picked, e.output(node))


def _adds(node: ir.Node) -> str | None:
    """Why a ScatterND is not INT8."""
    return None if node.attributes.get_string("reduction", "none") == "none" else "sums of codes need their zero point"


def one_hot(e: Emitter, node: ir.Node) -> None:
    """OneHot: ONE_HOT; negative indices count from the end, those beyond are nowhere."""
    assert node.inputs[0] is not None
    rank = len(e.shape(node.inputs[0]))
    depth, values = e.array(node, 1), e.array(node, 2)
    assert depth is not None and values is not None
    x = e.tensor(node, 0)
    if x.dtype not in ("int32", "int64"):
        raise CannotEmit(f"its indices are {x.dtype}, TFLite wants integers")
    n = int(depth.reshape(-1)[0])
    if not _counts(node.inputs[0]):
        x = _counted_from_end(e, x, n)
    off, on = (e.constant(name, v) for name, v in zip(("off", "on"), values, strict=True))
    axis = node.attributes.get_int("axis", -1)
    options = e.options("OneHotOptions", axis=axis if axis >= 0 else axis + rank + 1)
    e.op("ONE_HOT", [x, e.constant("depth", np.array(n, np.int32)), on, off], [e.output(node)], options)


def _counted_from_end(e: Emitter, x: Tensor, size: int) -> Tensor:
    negative = e.flatbuffer.activation("negative", x.shape, "bool")
    e.op("LESS", [x, e.constant("zero", np.array(0, x.dtype))], [negative], e.options("LessOptions"))
    moved, out = e.temporary("moved", x.shape, x), e.temporary("counted", x.shape, x)
    e.op("ADD", [x, e.constant("depth", np.array(size, x.dtype))], [moved], e.options("AddOptions"))
    e.op("SELECT_V2", [negative, moved, x], [out], e.options("SelectV2Options"))
    return out


def reverse_sequence(e: Emitter, node: ir.Node) -> None:
    """ReverseSequence: REVERSE_SEQUENCE, in the order in which its input is held."""
    x, lengths = e.placed(node, 0), e.tensor(node, 1)
    time, batch = node.attributes.get_int("time_axis", 0), node.attributes.get_int("batch_axis", 1)
    options = e.options("ReverseSequenceOptions", seqDim=x.order.index(time), batchDim=x.order.index(batch))
    e.op("REVERSE_SEQUENCE", [x.tensor, lengths], [e.output(node, x.order)], options)


def _never(reason: str) -> Op:
    def emit(e: Emitter, node: ir.Node) -> None:
        raise CannotEmit(reason)

    return Op(emit)


OPS = {
    "GatherElements": Op(gather_elements, codes=(0,), same=True),
    "GatherND": Op(gather_nd, codes=(0,), same=True),
    "ScatterND": Op(scatter_nd, codes=(0, 2), same=True, refuses=_adds),
    "OneHot": Op(one_hot),
    "ReverseSequence": Op(reverse_sequence),
    "NonZero": _never("how many elements it finds depends on the data, TFLite's tensors have fixed shapes here"),
    "NonMaxSuppression": _never(
        "how many boxes it keeps depends on the data; end the model before it and select boxes in the application"
    ),
}
