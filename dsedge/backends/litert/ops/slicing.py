"""Parts of a tensor put apart or together: Slice, Split and Concat."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import constant_of, parameters
from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op, Order, Placed
from dsedge.backends.litert.flatbuffer import Tensor

_GREATEST_RANK = 5
"""Of SLICE, STRIDED_SLICE and PAD."""

_SPLIT_TYPES = frozenset(("float32", "uint8", "int8", "int16", "int32"))


def slice_(e: Emitter, node: ir.Node) -> None:
    """Slice: SLICE, which is delegated, and STRIDED_SLICE where it leaves out what lies between."""
    assert node.inputs[0] is not None
    ranges = _ranges(e, node, e.shape(node.inputs[0]))
    x = e.placed(node, 0)
    taken = [ranges[axis] for axis in x.order]
    if all(r == range(n) for r, n in zip(taken, x.tensor.shape, strict=True)):
        e.alias(node, x)
        return
    if not all(taken):
        raise CannotEmit("it takes nothing, and TFLite has no empty tensors here")
    checked(x.tensor)
    cut(e, x.tensor, taken, e.output(node, x.order))


def cut(e: Emitter, x: Tensor, taken: Sequence[range], out: Tensor) -> None:
    """Write the part of `x` that `taken` names axis by axis to `out`."""
    begin = np.array([r.start for r in taken], np.int32)
    begins = e.constant("begin", begin)
    if all(r.step == 1 for r in taken):
        sizes = e.constant("size", np.array([len(r) for r in taken], np.int32))
        e.op("SLICE", [x, begins, sizes], [out], e.options("SliceOptions"))
        return
    # An end before the first element cannot be named, only masked out.
    mask = sum(1 << i for i, r in enumerate(taken) if r.stop < 0)
    ends = e.constant("end", np.array([max(r.stop, 0) for r in taken], np.int32))
    steps = e.constant("strides", np.array([r.step for r in taken], np.int32))
    e.op("STRIDED_SLICE", [x, begins, ends, steps], [out], e.options("StridedSliceOptions", endMask=mask))


def _ranges(e: Emitter, node: ir.Node, shape: tuple[int, ...]) -> list[range]:
    """What a Slice takes of each axis of its input."""
    starts, ends, axes, steps = (e.array(node, i) for i in range(1, 5))
    assert starts is not None and ends is not None
    found = [range(n) for n in shape]
    for i, axis in enumerate(range(len(starts)) if axes is None else axes.tolist()):
        step = 1 if steps is None else int(steps[i])
        found[axis] = range(*slice(int(starts[i]), _end(int(ends[i]), shape[axis], step), step).indices(shape[axis]))
    return found


def _end(end: int, size: int, step: int) -> int | None:
    """An end as Python counts: ONNX names "before the first" by a number below -size."""
    return None if step < 0 and end < -size else end


def split(e: Emitter, node: ir.Node) -> None:
    """Split: SPLIT where all parts are equal, SPLIT_V where not; SLICE where one is read, or SPLIT has no kernel."""
    assert node.inputs[0] is not None
    shape, axis = e.shape(node.inputs[0]), node.attributes.get_int("axis", 0)
    axis %= len(shape)
    sizes = [e.shape(out)[axis] for out in node.outputs]
    x = e.placed(node, 0)
    at = x.order.index(axis)
    read = [i for i, out in enumerate(node.outputs) if out.uses() or out.is_graph_output()]
    if len(node.outputs) == 1:
        e.alias(node, x)
        return
    if len(read) == 1 or x.tensor.dtype not in _SPLIT_TYPES:
        checked(x.tensor)
        for i in read:
            taken = [range(n) for n in x.tensor.shape]
            taken[at] = range(sum(sizes[:i]), sum(sizes[: i + 1]))
            cut(e, x.tensor, taken, e.output(node, x.order, index=i))
        return
    outputs = []
    for i, size in enumerate(sizes):
        part = [size if k == at else n for k, n in enumerate(x.tensor.shape)]
        outputs.append(e.output(node, x.order, index=i) if i in read else e.temporary("unread", part, x.tensor))
    dim = e.constant("axis", np.array(at, np.int32))
    if len(set(sizes)) == 1:
        e.op("SPLIT", [dim, x.tensor], outputs, e.options("SplitOptions", numSplits=len(sizes)))
    else:
        given = e.constant("sizes", np.array(sizes, np.int32))
        e.op("SPLIT_V", [x.tensor, given, dim], outputs, e.options("SplitVOptions", numSplits=len(sizes)))


def one_scale(node: ir.Node) -> str | None:
    """Why the outputs of a node cannot be codes under one scale, None where they can."""
    found = {
        (float(p.scale), int(p.zero_point))
        for out in node.outputs
        for use in out.uses()
        if (p := parameters(use.node)) is not None and p.axis is None
    }
    return "its outputs have different scales" if len(found) > 1 else None


def concat(e: Emitter, node: ir.Node) -> None:
    """Concat: CONCATENATION, in the order that most of its input is held in."""
    axis = node.attributes.get_int("axis", 0) % len(e.shape(node.outputs[0]))
    present = [i for i, value in enumerate(node.inputs) if value is not None and 0 not in e.shape(value)]
    order = _common_order(e, node, present)
    tensors = [e.tensor(node, i, order) for i in present]
    if len(tensors) == 1:
        e.alias(node, Placed(tensors[0], order))
        return
    options = e.options("ConcatenationOptions", axis=order.index(axis))
    e.op("CONCATENATION", tensors, [e.output(node, order)], options)


def _common_order(e: Emitter, node: ir.Node, indices: list[int]) -> Order:
    """The order that leaves most numbers where they are. Constants are written in whatever order is wanted."""
    kept: dict[Order, int] = {}
    for i in indices:
        value = node.inputs[i]
        assert value is not None
        if constant_of(value) is not None:
            continue
        held = e.placed(node, i).order
        kept[held] = kept.get(held, 0) + math.prod(e.shape(value))
    return max(kept, key=lambda order: kept[order], default=tuple(range(len(e.shape(node.outputs[0])))))


def checked(x: Tensor) -> None:
    """Check the rank of what is cut or padded.

    Raises:
        CannotEmit: the kernels take fewer axes.
    """
    if len(x.shape) > _GREATEST_RANK:
        raise CannotEmit(f"TFLite cuts and pads up to {_GREATEST_RANK} axes, it has {len(x.shape)}")


OPS = {
    "Slice": Op(slice_, codes=(0,), same=True),
    "Split": Op(split, codes=(0,), same=True, refuses=one_scale),
    "Concat": Op(concat, codes=None, same=True),
}
