"""What convolutions and pools write around themselves: one axis of space as two, padding, another scale, a part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import equal
from dsedge.backends.litert.emitter import CHANNELS_LAST, CannotEmit, Emitter, Order
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.ops.windows import Window

SAME, VALID = 0, 1  # Padding in the schema


def source(e: Emitter, node: ir.Node, order: Order | None = None) -> Tensor:
    """The input [batch, *space, channels], with two axes of space at least."""
    assert node.inputs[0] is not None
    x = e.tensor(node, 0, order or CHANNELS_LAST[len(e.shape(node.inputs[0]))])
    shape = (x.shape[0], 1, *x.shape[1:])
    if len(x.shape) > 3:
        return x
    if e.origin(x).shape == shape:
        return e.origin(x)  # what a convolution before it wrote
    wide = e.temporary("wide", shape, x)
    e.reshape(x, wide)
    return wide


@contextmanager
def result(e: Emitter, node: ir.Node, order: Order | None = None) -> Iterator[Tensor]:
    """The output [batch, *space, channels], with two axes of space at least, to be written inside."""
    out = e.output(node, order or CHANNELS_LAST[len(e.shape(node.outputs[0]))])
    if len(out.shape) > 3:
        yield out
        return
    wide = e.temporary("narrow", (out.shape[0], 1, *out.shape[1:]), out)
    yield wide
    e.reshape(wide, out)


def padded(e: Emitter, x: Tensor, w: Window, *, allow_same: bool = True, lowest: bool = False) -> tuple[Tensor, int]:
    """An input so that SAME or VALID describes its padding, and which of them.

    Where neither does, it is padded: with zero, which is the zero point of codes, or with the lowest number there is.

    Args:
        e: the emitter.
        x: shape [batch, *space, channels].
        w: the window.
        allow_same: whether SAME will do.
        lowest: whether to pad with the lowest number.
    """
    if w.inside:
        return x, VALID
    if w.same and allow_same:
        return x, SAME
    around = [(0, 0), *zip(w.before, w.reach, strict=True), (0, 0)]
    out = e.temporary("padded", [n + b + a for n, (b, a) in zip(x.shape, around, strict=True)], x)
    paddings = e.constant("paddings", np.array(around, np.int32))
    zero_is_lowest = x.qparams is not None and int(x.qparams.zero_point) == -128
    if not lowest or zero_is_lowest:  # XNNPACK takes PAD, and not PADV2
        e.op("PAD", [x, paddings], [out], e.options("PadOptions"))
    else:
        fill = np.array(-128, np.int8) if x.qparams is not None else np.array(np.finfo(np.float32).min)
        e.op("PADV2", [x, paddings, e.constant("lowest", fill, x.qparams)], [out], e.options("PadV2Options"))
    return out, VALID


@contextmanager
def rescaled(e: Emitter, x: Tensor, out: Tensor) -> Iterator[Tensor]:
    """Where to write what must have the scale of `x`: the output itself, or else a QUANTIZE follows."""
    if x.qparams is None or out.qparams is None or equal(x.qparams, out.qparams):
        yield out
        return
    own = e.temporary("own_scale", out.shape, x)
    yield own
    e.op("QUANTIZE", [own], [out], e.options("QuantizeOptions"))


@contextmanager
def cropped(e: Emitter, out: Tensor, w: Window) -> Iterator[tuple[Tensor, int]]:
    """Where a transposed convolution writes, and whether SAME or VALID describes its padding.

    Where neither does, it writes all that VALID gives, and a SLICE takes the output from it.

    Raises:
        CannotEmit: when the output goes further than any window.
    """
    if w.same:
        yield out, SAME
        return
    axes = zip(w.out, w.strides, w.extent, w.before, w.size, strict=True)
    whole = [(max((o - 1) * s + k, b + n), o * s + k) for o, s, k, b, n in axes]
    if any(n >= end for n, end in whole):
        raise CannotEmit("its output_padding is not less than its stride")
    shape = (out.shape[0], *(n for n, _ in whole), out.shape[3])
    if shape == out.shape:
        yield out, VALID
        return
    full = e.temporary("full", shape, out)
    yield full, VALID
    begin = e.constant("begin", np.array([0, *w.before, 0], np.int32))
    size = e.constant("size", np.array(out.shape, np.int32))
    e.op("SLICE", [full, begin, size], [out], e.options("SliceOptions"))
