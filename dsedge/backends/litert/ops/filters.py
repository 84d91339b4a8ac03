"""The weights of convolutions, and what is said with zeros in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import bias_too_great, constant_of, dequantized, reads_real_numbers, signed
from dsedge.backends.litert.emitter import CannotEmit, Emitter, Order
from dsedge.backends.litert.flatbuffer import Tensor

Change = Callable[[np.ndarray], np.ndarray]


def filters(e: Emitter, node: ir.Node, order: Order, change: Change | None = None, *, hybrid: bool = False) -> Tensor:
    """The weight of a convolution in a given order.

    One axis of space counts as two, the first of length 1.

    Args:
        e: the emitter.
        node: the convolution.
        order: of [outputs, inputs, *kernel], or as ONNX has the weight.
        change: rewrites the weight [a, b, *kernel], codes or real values, before it is ordered.
        hybrid: whether the kernel takes codes where activations are real, and quantizes these as they come.

    Raises:
        CannotEmit: when it is computed at run time, but needs to be rewritten.
    """
    value = node.inputs[1]
    assert value is not None
    found = constant_of(value)
    flat = len(e.shape(value)) == 3
    if found is None:
        if change is not None or flat:
            raise CannotEmit("its weight is computed at run time")
        return e.tensor(node, 1, order)
    array, params = found
    if params is not None:
        array, params = signed(array, params)
        if params.dtype != "int8" or params.axis not in (None, 0, 1):
            array, params = dequantized(array, params), None
    array = array[:, :, None] if flat else array
    array = array if change is None else change(array)
    if params is not None and params.axis is not None:
        repeats = array.shape[params.axis] // params.scale.size
        scale, zero_point = np.tile(params.scale, repeats), np.tile(params.zero_point, repeats)
        params = replace(params, scale=scale, zero_point=zero_point, axis=order.index(params.axis))
    tensor = e.constant(value.name or "", array.transpose(order), params)
    keeps_codes = e.is_int8(node) or (hybrid and reads_real_numbers(node) and why_not_codes(node) is None)
    if array.dtype != np.float16 and (params is None or keeps_codes):
        return tensor
    return e.widened(tensor, f"{value.name}_float32")


def why_not_codes(node: ir.Node) -> str | None:
    """Why TFLite cannot compute a convolution on codes, None where it can."""
    value = node.inputs[1]
    found = constant_of(value) if value is not None else None
    if found is None:
        return "its weight is computed at run time"
    array, params = found
    if params is None:
        return "its weight is no codes"
    array, params = signed(array, params)
    axis = 1 if node.op_type == "ConvTranspose" else 0
    if params.dtype != "int8" or params.block is not None:
        return f"its weight is {params.dtype}"
    if np.any(params.zero_point):
        return "its weight has a zero point, TFLite wants weights symmetric"
    if params.axis not in (None, axis):
        return f"its weight has scales along axis {params.axis}, TFLite wants one for each output channel"
    return bias_too_great(node, params.scale)


def block_diagonal(array: np.ndarray, group: int) -> np.ndarray:
    """A grouped weight [a, b / group, ...] as that of one group, [a, b, ...]: zero between groups."""
    if group == 1:
        return array
    a, b = array.shape[:2]
    out = np.zeros((a, b * group, *array.shape[2:]), array.dtype)
    for g in range(group):
        rows = slice(g * a // group, (g + 1) * a // group)
        out[rows, g * b : (g + 1) * b] = array[rows]
    return out


def dilated(array: np.ndarray, dilations: Sequence[int]) -> np.ndarray:
    """A weight [a, b, *kernel] with the zeros between its elements that a dilation skips."""
    kernel = [(k - 1) * d + 1 for k, d in zip(array.shape[2:], dilations, strict=True)]
    out = np.zeros((*array.shape[:2], *kernel), array.dtype)
    steps = tuple(slice(None, None, d) for d in (1, 1, *dilations))
    out[steps] = array
    return out
