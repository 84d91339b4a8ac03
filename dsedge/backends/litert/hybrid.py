"""INT8 weights under float activations (`--precision int8_dynamic`): what is worth it, as rules of the contract.

XNNPACK quantizes the input of a product as it comes, with a scale and zero point for each row or image, multiplies
codes, and writes real numbers. No calibration is needed, and the file is a quarter of the size. It has such kernels for
CONV_2D and FULLY_CONNECTED. TFLite's built-in ones, which run without it, are several times slower than float. Tables
are stored in INT8 too, and the rows that are read become float.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from dsedge.backends.litert.ops.unrolled import MAX_STEPS
from dsedge.model import static_shape
from dsedge.quant.conditions import gemm_axis
from dsedge.quant.contract import OpRule, dynamic

_LEAST_TERMS, _LEAST_OUTPUTS = 64, 32
"""Below either, to quantize the input costs more than the product saves."""

_LEAST_TABLE, _LEAST_ROW = 2**14, 8
"""Numbers in a table, and in what shares a scale, that are worth the operators that make its rows real again."""


def _shape(node: ir.Node, index: int) -> tuple[int, ...]:
    value = node.inputs[index] if index < len(node.inputs) else None
    return (static_shape(value) or ()) if value is not None else ()


def _image(node: ir.Node) -> str | None:
    shape = _shape(node, 1)
    if len(shape) != 4:
        return "TFLite has dynamic kernels for convolutions over two axes of space"
    depthwise = node.attributes.get_int("group", 1) > 1 and shape[1] == 1
    return "XNNPACK has no dynamic kernel for depthwise convolutions" if depthwise else _size(shape[0], shape[1:])


def _linear(node: ir.Node) -> str | None:
    shape = _shape(node, 1)
    if len(shape) != 2:
        return "its weight is not a matrix"
    axis = gemm_axis(node)
    return _size(shape[axis], shape[:axis] + shape[axis + 1 :])


def _size(outputs: int, terms: tuple[int, ...]) -> str | None:
    if outputs >= _LEAST_OUTPUTS and math.prod(terms) >= _LEAST_TERMS:
        return None
    return f"{outputs} sums of {math.prod(terms)} terms: to quantize the input costs more than that saves"


def gathered_axis(node: ir.Node) -> int:
    """The axis of a Gather's table along which it picks."""
    return node.attributes.get_int("axis", 0) % len(_shape(node, 0))


def reads_a_table(node: ir.Node) -> bool:
    """Whether a Gather picks from constant real numbers."""
    table = node.inputs[0]
    return table is not None and table.const_value is not None and table.dtype == ir.DataType.FLOAT


def small_table(node: ir.Node) -> str | None:
    """Why the table of a Gather is not worth to be INT8."""
    shape = _shape(node, 0)
    numbers, rows = math.prod(shape), shape[gathered_axis(node)]
    if numbers >= _LEAST_TABLE and numbers >= _LEAST_ROW * rows:
        return None
    return f"a table of {rows} times {numbers // max(rows, 1)} numbers is too small for INT8 to save anything"


_BECAUSE = "INT8 weights, and XNNPACK quantizes the activations as they come"

TABLE = "a table in INT8, a scale for each row; the rows that are read become float"

_STATE = "INT8 weights, activations rounded for each product as they come, a float state"

RECURRENT: tuple[OpRule, ...] = (
    *dynamic(
        "LSTM",
        weights=(1, 2),
        axis=None,
        because=f"{_STATE}: it is written step by step, above {MAX_STEPS} steps as TFLite's LSTM",
    ),
    *dynamic("GRU", weights=(1, 2), axis=None, because=f"{_STATE}: TFLite has no GRU, it is written step by step"),
    *dynamic("RNN", weights=(1, 2), axis=None, because=f"{_STATE}: it is written step by step"),
)
"""Layers with a state, under `--precision int8` too: the kernels with float activations that old runtimes have know one
scale for a matrix."""

HYBRID: tuple[OpRule, ...] = (
    *dynamic("Conv", weights=(1,), axis=0, when=(_image,), because=f"CONV_2D: {_BECAUSE}"),
    *dynamic("Gemm", weights=(1,), axis=gemm_axis, when=(_linear,), because=f"FULLY_CONNECTED: {_BECAUSE}"),
    *dynamic("MatMul", weights=(1,), axis=1, when=(_linear,), because=f"FULLY_CONNECTED: {_BECAUSE}"),
    *dynamic("Gather", weights=(0,), axis=gathered_axis, when=(small_table,), because=TABLE),
    *RECURRENT,
)
