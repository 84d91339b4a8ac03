"""Convolutions: channels last, weights [outputs, *kernel, inputs], depthwise ones [1, *kernel, outputs]."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op
from dsedge.backends.litert.ops.filters import block_diagonal, dilated, filters, why_not_codes
from dsedge.backends.litert.ops.spatial import cropped, padded, result, source
from dsedge.backends.litert.ops.windows import transposed_window, window
from dsedge.model import static_shape


def conv(e: Emitter, node: ir.Node) -> None:
    """Conv: CONV_2D, grouped too, DEPTHWISE_CONV_2D or CONV_3D."""
    assert node.inputs[0] is not None and node.inputs[1] is not None
    channels, weights = e.shape(node.inputs[0])[1], e.shape(node.inputs[1])
    outputs, group = weights[0], node.attributes.get_int("group", 1)
    w = window(node, weights[2:])
    options: dict[str, Any] = {"fusedActivationFunction": e.activation(node)}
    for axis, stride, dilation in zip("DHW"[-len(w.kernel) :], w.strides, w.dilations, strict=True):
        options |= {f"stride{axis}": stride, f"dilation{axis}Factor": dilation}
    if len(w.kernel) == 3:
        name, kind = "CONV_3D", "Conv3DOptions"
        kernels = filters(e, node, (2, 3, 4, 1, 0), lambda array: block_diagonal(array, group))
    elif group == channels and group > 1:
        name, kind = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
        options["depthMultiplier"] = outputs // channels
        kernels = filters(e, node, (1, 2, 3, 0))
    else:
        name, kind = "CONV_2D", "Conv2DOptions"
        kernels = filters(e, node, (0, 2, 3, 1), hybrid=True)
    x, padding = padded(e, source(e, node), w)
    bias = e.bias(node, 2, x, kernels, outputs)
    with result(e, node) as out:
        e.op(name, [x, kernels, bias], [out], e.options(kind, padding=padding, **options))


def conv_transpose(e: Emitter, node: ir.Node) -> None:
    """ConvTranspose: TRANSPOSE_CONV, and a SLICE where neither SAME nor VALID is its padding.

    TFLite has neither groups nor dilations here: zeros in the weight say the same.
    """
    assert node.inputs[1] is not None
    weights = e.shape(node.inputs[1])
    if len(weights) > 4:
        raise CannotEmit(f"it has {len(weights) - 2} axes of space, TRANSPOSE_CONV has two")
    group = node.attributes.get_int("group", 1)
    w = transposed_window(node, weights[2:])
    kernels = filters(e, node, (1, 2, 3, 0), lambda array: dilated(block_diagonal(array, group), w.dilations))
    x = source(e, node)
    given = len(node.inputs) > 2 and node.inputs[2] is not None
    bias = [e.bias(node, 2, x, kernels, weights[1] * group)] if given else []
    options: dict[str, Any] = {"strideH": w.strides[0], "strideW": w.strides[1]}
    with result(e, node) as out, cropped(e, out, w) as (whole, padding):
        shape = e.constant("shape", np.array(whole.shape, np.int32))
        options |= {"padding": padding, "fusedActivationFunction": e.activation(node)}
        e.op("TRANSPOSE_CONV", [shape, kernels, x, *bias], [whole], e.options("TransposeConvOptions", **options))


def _conv_in_float(node: ir.Node) -> str | None:
    shape = static_shape(node.inputs[0]) if node.inputs[0] is not None else None
    return "TFLite's CONV_3D has no INT8 kernel" if shape and len(shape) == 5 else why_not_codes(node)


OPS = {
    "Conv": Op(conv, codes=(0, 1), fuses=True, refuses=_conv_in_float),
    "ConvTranspose": Op(conv_transpose, codes=(0, 1), fuses=True, refuses=why_not_codes),
}
