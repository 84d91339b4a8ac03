"""INT8 weights under float activations (`--precision int8_dynamic`): what is worth it, as rules of the contract.

XNNPACK quantizes the input of a product as it comes, with a scale and zero point for each row or image, multiplies
codes, and writes real numbers. No calibration is needed, and the file is a quarter of the size. It has such kernels for
CONV_2D and FULLY_CONNECTED. TFLite's built-in ones, which run without it, are several times slower than float.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from dsedge.model import static_shape
from dsedge.quant.contract import OpRule, dynamic

_LEAST_TERMS, _LEAST_OUTPUTS = 64, 32
"""Below either, to quantize the input costs more than the product saves."""


def _gemm_axis(node: ir.Node) -> int:
    return 0 if node.attributes.get_int("transB", 0) else 1


def _weight(node: ir.Node) -> tuple[int, ...]:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    return (static_shape(value) or ()) if value is not None else ()


def _image(node: ir.Node) -> str | None:
    shape = _weight(node)
    if len(shape) != 4:
        return "TFLite has dynamic kernels for convolutions over two axes of space"
    depthwise = node.attributes.get_int("group", 1) > 1 and shape[1] == 1
    return "XNNPACK has no dynamic kernel for depthwise convolutions" if depthwise else _size(shape[0], shape[1:])


def _linear(node: ir.Node) -> str | None:
    shape = _weight(node)
    if len(shape) != 2:
        return "its weight is not a matrix"
    axis = _gemm_axis(node)
    return _size(shape[axis], shape[:axis] + shape[axis + 1 :])


def _size(outputs: int, terms: tuple[int, ...]) -> str | None:
    if outputs >= _LEAST_OUTPUTS and math.prod(terms) >= _LEAST_TERMS:
        return None
    return f"{outputs} sums of {math.prod(terms)} terms: to quantize the input costs more than that saves"


_BECAUSE = "INT8 weights, and XNNPACK quantizes the activations as they come"

_STATE = "INT8 weights, activations rounded for each product as they come, a float state"

RECURRENT: tuple[OpRule, ...] = (
    *dynamic("LSTM", weights=(1, 2), axis=None, because=f"{_STATE}: on INT8 activations TFLite's LSTM is much slower"),
    *dynamic("GRU", weights=(1, 2), axis=None, because=f"{_STATE}: TFLite has no GRU, it is written step by step"),
    *dynamic("RNN", weights=(1, 2), axis=None, because=f"{_STATE}: it is written step by step"),
)
"""Layers with a state, under `--precision int8` too: the kernels with float activations that old runtimes have know one
scale for a matrix."""

HYBRID: tuple[OpRule, ...] = (
    *dynamic("Conv", weights=(1,), axis=0, when=(_image,), because=f"CONV_2D: {_BECAUSE}"),
    *dynamic("Gemm", weights=(1,), axis=_gemm_axis, when=(_linear,), because=f"FULLY_CONNECTED: {_BECAUSE}"),
    *dynamic("MatMul", weights=(1,), axis=1, when=(_linear,), because=f"FULLY_CONNECTED: {_BECAUSE}"),
    *RECURRENT,
)
