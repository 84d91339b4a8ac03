"""Pad: PAD with zero, PADV2 with another value, MIRROR_PAD, GATHER where edges repeat; negative pads cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import encoded
from dsedge.backends.litert.emitter import Emitter, Op, Placed
from dsedge.backends.litert.ops.slicing import checked, cut

_REFLECT = 0  # MirrorPadMode in the schema


def pad(e: Emitter, node: ir.Node) -> None:
    """Pad: PAD with zero, PADV2 with another value, MIRROR_PAD, GATHER where edges repeat; negative pads cut first."""
    assert node.inputs[0] is not None
    mode = node.attributes.get_string("mode", "constant")
    rank = len(e.shape(node.inputs[0]))
    pads, axes = e.array(node, 1), e.array(node, 3)
    assert pads is not None
    around = [(0, 0)] * rank
    named = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    for i, axis in enumerate(named):
        around[axis] = (int(pads[i]), int(pads[i + len(named)]))
    x = e.placed(node, 0)
    sides = [around[axis] for axis in x.order]
    if not any(map(any, sides)):
        e.alias(node, x)
        return
    if mode in ("edge", "wrap") or (mode == "reflect" and x.tensor.dtype == "bool"):
        _repeat(e, node, x, sides, mode)
        return
    checked(x.tensor)
    tensor = x.tensor
    if min(map(min, sides)) < 0:
        taken = [range(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(tensor.shape, sides, strict=True)]
        if max(map(max, sides)) <= 0:
            cut(e, tensor, taken, e.output(node, x.order))
            return
        less = e.temporary("cut", [len(r) for r in taken], tensor)
        cut(e, tensor, taken, less)
        tensor = less
    out = e.output(node, x.order)
    sides = [(max(b, 0), max(a, 0)) for b, a in sides]
    paddings = e.constant("paddings", np.array(sides, np.int32))
    if mode == "reflect":
        e.op("MIRROR_PAD", [tensor, paddings], [out], e.options("MirrorPadOptions", mode=_REFLECT))
        return
    value = e.array(node, 2)
    if value is None or value.size == 0 or not value.any():
        e.op("PAD", [tensor, paddings], [out], e.options("PadOptions"))
        return
    fill, params = value.reshape(()), tensor.qparams
    filling = e.constant("value", fill.astype(tensor.dtype) if params is None else encoded(fill, params), params)
    e.op("PADV2", [tensor, paddings, filling], [out], e.options("PadV2Options"))


def _repeat(e: Emitter, node: ir.Node, x: Placed, sides: Sequence[tuple[int, int]], mode: str) -> None:
    """Pad by picking: each axis that grows or shrinks in turn."""
    tensor, left = x.tensor, [at for at, side in enumerate(sides) if any(side)]
    for at in left:
        size, (before, after) = tensor.shape[at], sides[at]
        kept: np.ndarray = np.arange(size, dtype=np.int32)[max(-before, 0) : size - max(-after, 0)]
        picked = np.pad(kept, (max(before, 0), max(after, 0)), mode)  # type: ignore[call-overload]
        shape = [len(picked) if i == at else n for i, n in enumerate(tensor.shape)]
        out = e.output(node, x.order) if at == left[-1] else e.temporary("padded", shape, tensor)
        indices = e.constant("indices", picked)
        e.op("GATHER", [tensor, indices], [out], e.options("GatherOptions", axis=at))
        tensor = out


OPS = {"Pad": Op(pad, codes=(0,), same=True)}
