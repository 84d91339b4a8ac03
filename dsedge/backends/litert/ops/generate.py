"""Values that depend on shapes or constants only, and were too large to fold: Shape, Size, ConstantOfShape, Range."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import Emitter, Op, Placed


def shape(e: Emitter, node: ir.Node) -> None:
    """Shape: a constant."""
    assert node.inputs[0] is not None
    sizes = e.shape(node.inputs[0])
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(sizes))
    _hold(e, node, np.array(sizes[slice(start, end)], np.int64))


def size(e: Emitter, node: ir.Node) -> None:
    """Size: a constant."""
    assert node.inputs[0] is not None
    _hold(e, node, np.array(math.prod(e.shape(node.inputs[0])), np.int64))


def constant_of_shape(e: Emitter, node: ir.Node) -> None:
    """ConstantOfShape: FILL."""
    given = node.attributes.get_tensor("value")
    value = np.zeros((), np.float32) if given is None else given.numpy().reshape(())
    sizes = e.constant("sizes", np.array(e.shape(node.outputs[0]), np.int32))
    e.op("FILL", [sizes, e.constant("value", value)], [e.output(node)], e.options("FillOptions"))


def range_(e: Emitter, node: ir.Node) -> None:
    """Range with constant bounds: a constant."""
    start, limit, step = (e.array(node, i) for i in range(3))
    assert start is not None and limit is not None and step is not None
    count = max(math.ceil((limit.item() - start.item()) / step.item()), 0)
    _hold(e, node, (start + np.arange(count) * step).astype(start.dtype))


def _hold(e: Emitter, node: ir.Node, array: np.ndarray) -> None:
    e.alias(node, Placed(e.constant(node.outputs[0].name or "", array), tuple(range(array.ndim))))


OPS = {
    "Shape": Op(shape),
    "Size": Op(size),
    "ConstantOfShape": Op(constant_of_shape),
    "Range": Op(range_),
}
