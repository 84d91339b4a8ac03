"""Pools, channels last."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import equal, parameters
from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.ops.spatial import SAME, padded, rescaled, result, source
from dsedge.backends.litert.ops.windows import Window, window
from dsedge.quant.plan import QParams

Pool = Callable[[Tensor, Window, Tensor], None]
"""Writes a pool over two axes of space: input, window, output."""


def max_pool(e: Emitter, node: ir.Node) -> None:
    """MaxPool: MAX_POOL_2D, the lowest number as its padding."""
    if len(node.outputs) > 1 and node.outputs[1].name:
        raise CannotEmit("it gives indices, which MAX_POOL_2D does not")
    _max(e, node, _window(node))


def global_max(e: Emitter, node: ir.Node) -> None:
    """GlobalMaxPool: MAX_POOL_2D with all of space as its window."""
    assert node.inputs[0] is not None
    _max(e, node, window(node, e.shape(node.inputs[0])[2:]))


def _max(e: Emitter, node: ir.Node, w: Window) -> None:
    positive = _not_negative(node.inputs[0])

    def pool(x: Tensor, w: Window, out: Tensor) -> None:
        x, padding = padded(e, x, w, lowest=not positive)
        e.op("MAX_POOL_2D", [x], [out], _options(e, node, w, padding))

    x = source(e, node)
    with result(e, node) as out:
        _over_space(e, x, w, out, pool)


def average_pool(e: Emitter, node: ir.Node) -> None:
    """AveragePool: AVERAGE_POOL_2D, which divides by the number of elements inside the input.

    Where ONNX divides by the size of the window throughout, codes go through a DEPTHWISE_CONV_2D of equal weights
    instead: XNNPACK takes that and not AVERAGE_POOL_2D, and it rounds as the graph does. Where ONNX divides by neither,
    what comes out is multiplied by the ratio; in float, because codes would be rounded twice.
    """
    counts_padding = bool(node.attributes.get_int("count_include_pad", 0))

    def pool(x: Tensor, w: Window, out: Tensor) -> None:
        ratio = _ratio(w, counts_padding)
        if ratio is None and e.is_int8(node):
            _depthwise(e, node, x, w, out)
        elif ratio is not None and w.same and not counts_padding:
            with rescaled(e, x, out) as pooled:
                e.op("AVERAGE_POOL_2D", [x], [pooled], _options(e, node, w, SAME))
        else:
            x, padding = padded(e, x, w, allow_same=False)
            pooled = out if ratio is None else e.temporary("undivided", out.shape, out)
            e.op("AVERAGE_POOL_2D", [x], [pooled], _options(e, node, w, padding))
            if ratio is not None:
                options = e.options("MulOptions", fusedActivationFunction=e.activation(node))
                e.op("MUL", [pooled, e.constant("ratio", ratio)], [out], options)

    w = _window(node)
    x = source(e, node)
    with result(e, node) as out:
        _over_space(e, x, w, out, pool)


def _depthwise(e: Emitter, node: ir.Node, x: Tensor, w: Window, out: Tensor) -> None:
    """The mean of codes in each window, the padding counted."""
    x, padding = padded(e, x, w)
    assert x.qparams is not None
    shape = (1, *w.kernel, x.shape[3])
    code = 64  # a power of two: the product with the scale is as exact as the division
    scale = np.array(1 / (code * np.prod(w.kernel)), np.float32)
    params = QParams(scale, np.array(0, np.int8), "int8")
    weights = e.constant("mean", np.full(shape, code, np.int8), params)
    grid = QParams(np.asarray(x.qparams.scale * scale, np.float32), np.array(0, np.int32), "int32")
    bias = e.constant("no_bias", np.zeros(shape[3], np.int32), grid)
    options = e.options(
        "DepthwiseConv2DOptions",
        padding=padding,
        strideH=w.strides[0],
        strideW=w.strides[1],
        dilationHFactor=1,
        dilationWFactor=1,
        depthMultiplier=1,
        fusedActivationFunction=e.activation(node),
    )
    e.op("DEPTHWISE_CONV_2D", [x, weights, bias], [out], options)


def global_average(e: Emitter, node: ir.Node) -> None:
    """GlobalAveragePool: MEAN over space, wherever that lies."""
    x = e.placed(node, 0)
    axes = [k for k, axis in enumerate(x.order) if axis > 1]
    inputs = [x.tensor, e.constant("axes", np.array(axes, np.int32))]
    e.op("MEAN", inputs, [e.output(node, x.order)], e.options("ReducerOptions", keepDims=True))


def _window(node: ir.Node) -> Window:
    w = window(node, tuple(node.attributes.get_ints("kernel_shape", ())))
    if any(d != 1 for d in w.dilations):
        raise CannotEmit("it has dilations, TFLite's pools have none")
    return w


def _options(e: Emitter, node: ir.Node, w: Window, padding: int) -> object:
    return e.options(
        "Pool2DOptions",
        padding=padding,
        strideH=w.strides[0],
        strideW=w.strides[1],
        filterHeight=w.kernel[0],
        filterWidth=w.kernel[1],
        fusedActivationFunction=e.activation(node),
    )


def _over_space(e: Emitter, x: Tensor, w: Window, out: Tensor, pool: Pool) -> None:
    """A pool over two axes of space, or over three: the last two first, then the first."""
    if len(w.kernel) == 2:
        pool(x, w, out)
        return
    n, depth, *size, channels = x.shape
    deep, *ends = out.shape[1:-1]
    area = int(np.prod(ends))
    planes = e.temporary("planes", (n * depth, *size, channels), x)
    pooled = e.temporary("pooled", (n * depth, *ends, channels), out)
    columns = e.temporary("columns", (n, depth, area, channels), out)
    last = e.temporary("last", (n, deep, area, channels), out)
    e.reshape(x, planes)
    pool(planes, w.of(1, 2), pooled)
    e.reshape(pooled, columns)
    pool(columns, w.of(0).beside(area), last)
    e.reshape(last, out)


def _ratio(w: Window, counts_padding: bool) -> np.ndarray | None:
    """Float32 [1, *out, 1]: the size of the window over the number that ONNX divides by; None where all are 1."""
    axes = []
    for k, s, b, a, n, o in zip(w.kernel, w.strides, w.before, w.after, w.size, w.out, strict=True):
        low, high = (-b, n + a) if counts_padding else (0, n)
        starts = np.arange(o) * s - b
        axes.append(k / (np.minimum(starts + k, high) - np.maximum(starts, low)))
    ratio = np.asarray(reduce(np.multiply.outer, axes), np.float32)
    return None if np.all(ratio == 1.0) else ratio[None, ..., None]


def divides_by_window(node: ir.Node) -> bool:
    """Whether an AveragePool divides each sum by the size of its window, which a DEPTHWISE_CONV_2D does on codes.

    Raises:
        CannotEmit: when it cannot be written at all.
    """
    return _ratio(_window(node), bool(node.attributes.get_int("count_include_pad", 0))) is None


def average_in_float(node: ir.Node) -> str | None:
    """Why an AveragePool has no INT8 kernel, None where it has."""
    try:
        w, by_window = _window(node), divides_by_window(node)
    except CannotEmit as reason:
        return str(reason)
    if len(w.kernel) == 3:
        return "over three axes of space it would be rounded twice"
    inside = w.same and not node.attributes.get_int("count_include_pad", 0)
    return None if by_window or inside else "TFLite divides by another number at the border"


def _average_of_codes(node: ir.Node) -> str | None:
    """Why these codes are averaged in float: AVERAGE_POOL_2D has one scale, under another they are rounded twice."""
    reason = average_in_float(node)
    if reason is not None or divides_by_window(node):
        return reason
    read = parameters(node.inputs[0].producer()) if node.inputs[0] is not None else None
    written = [parameters(user) for user in node.outputs[0].consumers()]
    same = read is not None and all(p is not None and equal(p, read) for p in written)
    return None if same else "TFLite averages under one scale, its result has another"


def _not_negative(value: ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "Relu"


OPS = {
    "MaxPool": Op(max_pool, codes=(0,), same=True, fuses=True),
    "GlobalMaxPool": Op(global_max, codes=(0,), same=True),
    "AveragePool": Op(average_pool, codes=(0,), fuses=True, refuses=_average_of_codes),
    "GlobalAveragePool": Op(global_average, codes=(0,)),
}
