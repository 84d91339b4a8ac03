"""Operators that change the view or repeat: Reshape and its kin, Transpose, which writes nothing, Expand and Tile."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op, Placed
from dsedge.backends.litert.regroup import regrouped

_GREATEST_RANK = 8
"""Of TILE and BROADCAST_TO."""


def view(e: Emitter, node: ir.Node) -> None:
    """Whatever keeps the numbers in ONNX's order: RESHAPE, written when read, and moving as little as can be."""
    source = node.inputs[0]
    assert source is not None
    before, after = e.shape(source), e.shape(node.outputs[0])

    def write() -> Placed:
        x = e.placed(node, 0)
        wanted, order = regrouped(before, after, x.order, plain=node.outputs[0].is_graph_output())
        tensor = e.permuted(x, wanted)
        for known in (tensor, e.origin(tensor)):
            if tuple(after[axis] for axis in order) == known.shape:
                return Placed(known, order)
        out = e.output(node, order)
        e.reshape(tensor, out)
        return Placed(out, order)

    e.later(node, write)


def identity(e: Emitter, node: ir.Node) -> None:
    """Nothing."""
    e.alias(node, e.placed(node, 0))


def transpose(e: Emitter, node: ir.Node) -> None:
    """A new name for the axes."""
    x = e.placed(node, 0)
    rank = len(x.order)
    perm = list(node.attributes.get_ints("perm", tuple(reversed(range(rank)))))
    e.alias(node, Placed(x.tensor, tuple(perm.index(axis) for axis in x.order)))


def expand(e: Emitter, node: ir.Node) -> None:
    """Expand: BROADCAST_TO, in the order in which its input is held; axes that it adds come first."""
    x, shape = e.placed(node, 0), e.shape(node.outputs[0])
    more = len(shape) - len(x.order)
    order = (*range(more), *(axis + more for axis in x.order))
    wanted = [shape[axis] for axis in order]
    if len(wanted) > _GREATEST_RANK:
        raise CannotEmit(f"BROADCAST_TO takes {_GREATEST_RANK} axes, it has {len(wanted)}")
    if tuple(wanted) == x.tensor.shape:
        e.alias(node, Placed(x.tensor, order))
        return
    out = e.output(node, order)
    if math.prod(wanted) == math.prod(x.tensor.shape):
        e.reshape(x.tensor, out)
        return
    sizes = e.constant("shape", np.array(wanted, np.int32))
    e.op("BROADCAST_TO", [x.tensor, sizes], [out], e.options("BroadcastToOptions"))


def tile(e: Emitter, node: ir.Node) -> None:
    """Tile: TILE, in the order in which its input is held."""
    x, repeats = e.placed(node, 0), e.array(node, 1)
    assert repeats is not None
    times = [int(repeats[axis]) for axis in x.order]
    if len(times) > _GREATEST_RANK:
        raise CannotEmit(f"TILE takes {_GREATEST_RANK} axes, it has {len(times)}")
    if all(n == 1 for n in times):
        e.alias(node, x)
        return
    inputs = [x.tensor, e.constant("multiples", np.array(times, np.int32))]
    e.op("TILE", inputs, [e.output(node, x.order)], e.options("TileOptions"))


_VIEW = Op(view, codes=(0,), same=True)
OPS = {
    "Reshape": _VIEW,
    "Flatten": _VIEW,
    "Squeeze": _VIEW,
    "Unsqueeze": _VIEW,
    "Identity": Op(identity, codes=(0,), same=True),
    "Transpose": Op(transpose, codes=(0,), same=True),
    "Expand": Op(expand, codes=(0,), same=True),
    "Tile": Op(tile, codes=(0,), same=True),
}
