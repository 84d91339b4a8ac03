"""LiteRT's contracts: where Q/DQ goes so that its INT8 kernels, those of XNNPACK first, take every operator.

XNNPACK takes whole stretches of the graph (partitions), float and INT8 operators alike, and the conversions between
them. What it has no INT8 kernel for runs in a built-in kernel, which mostly works number by number and cuts the
partition in two. There the float kernel between two conversions is faster and more exact, and so the operator stays
float. `tools/litert_kernels.py` measures each.
"""

from __future__ import annotations

import onnx_ir as ir

from dsedge.backends.litert.codes import bounds_of
from dsedge.backends.litert.hybrid import HYBRID, RECURRENT, TABLE, gathered_axis, reads_a_table, small_table
from dsedge.backends.litert.ops.broadcast import number
from dsedge.backends.litert.ops.pooling import average_in_float, divides_by_window
from dsedge.model import static_shape
from dsedge.quant.conditions import constant_bias, gemm_axis, matrix_weight, values_only
from dsedge.quant.contract import (
    Contract,
    NumberFormat,
    OpRule,
    fixed,
    follows,
    shares,
    stays_float,
    stores,
    weighted,
)
from dsedge.target import Target

XNNPACK = "xnnpack"
"""The variant of boards whose runtime has XNNPACK's INT8 kernels."""

_COPIES = "Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather DepthToSpace SpaceToDepth"
_LEAST_SLOPE = 2.0**-7
"""XNNPACK takes a LeakyRelu whose slope, times the ratio of the scales, is 1/256 at least."""


def _transposed_axis(node: ir.Node) -> int | None:
    """Per tensor in groups: channels of different groups would share a scale."""
    return 1 if node.attributes.get_int("group", 1) == 1 else None


def _rank(node: ir.Node, index: int = 0) -> int | None:
    value = node.inputs[index]
    return None if value is None or value.shape is None else len(value.shape)


def _volume(node: ir.Node) -> str | None:
    return "CONV_3D has no INT8 kernel" if _rank(node) == 5 else None


def _plain_gemm(node: ir.Node) -> str | None:
    if node.attributes.get_float("alpha", 1.0) != 1.0 or node.attributes.get_float("beta", 1.0) != 1.0:
        return "alpha or beta is not 1, and FULLY_CONNECTED adds the bias on the accumulator's grid"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return None
    shape, outputs = static_shape(bias), static_shape(node.outputs[0])
    if bias.const_value is None or shape is None or outputs is None or shape[-1:] != outputs[-1:] or len(shape) > 1:
        return "its bias is not a constant vector"
    return None


def _of_activations(node: ir.Node) -> bool:
    return len(node.inputs) > 1 and node.inputs[1] is not None and node.inputs[1].const_value is None


def _constant_bounds(node: ir.Node) -> str | None:
    low, high = bounds_of(node)
    if low is None or high is None:
        return "its bounds are computed at run time"
    return None if low <= 0.0 <= high else "zero lies outside of its bounds"


def _steep(node: ir.Node) -> str | None:
    slope = node.attributes.get_float("alpha", 0.01)
    return None if slope >= _LEAST_SLOPE else f"XNNPACK's INT8 kernel takes no slope of {slope:g}"


def _divides_by_less(node: ir.Node) -> str | None:
    if reason := average_in_float(node):
        return reason
    if divides_by_window(node):
        return None
    return "it divides by less than its window at the border, which XNNPACK's INT8 kernels do not"


def _by_a_number(node: ir.Node) -> bool:
    return bool(number(node, 1))


def _unit_elu(node: ir.Node) -> str | None:
    return None if node.attributes.get_float("alpha", 1.0) == 1.0 else "ELU has no factor, alpha must be 1"


def _with_a_constant(node: ir.Node) -> str | None:
    constant = any(value is not None and value.const_value is not None for value in node.inputs)
    return "a limit that may lie far outside would share the scale of the values" if constant else None


def _pads_with_zeros(node: ir.Node) -> str | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if node.attributes.get_string("mode", "constant") != "constant" or value is None:
        return None
    if value.const_value is None or float(value.const_value.numpy().reshape(-1)[0]) != 0.0:
        return "it pads with another value than zero, which may lie outside of the range"
    return None


def _interpolates(node: ir.Node) -> bool:
    return node.attributes.get_string("mode", "nearest") == "linear"


def _ends_exactly(node: ir.Node) -> bool:
    """Whether INT8 copies of it, with float behind them, are as exact as float ones.

    They are not behind Concat, where boxes and scores of a detector would share a scale, nor behind Sigmoid, whose
    codes are 1/256 apart.
    """
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    while producer is not None and producer.op_type in _COPIES.split() and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    return producer is None or producer.op_type not in ("Concat", "Sigmoid", "Tanh")


def _is_result(node: ir.Node) -> bool:
    """Whether an image that is made of others leaves the model: one conversion behind it, instead of one for each.

    With a constant or an input of the model, which is there in float, it is more exact in float. So is a sequence: what
    is summed there from layer to layer needs more than 8 bits.
    """
    out = node.outputs[0]
    users = list(out.consumers())
    if len(users) == 1 and users[0].op_type in FUSIONS[node.op_type]:
        out = users[0].outputs[0]
    made = all(value is not None and value.producer() is not None for value in node.inputs)
    return out.is_graph_output() and made and _rank(node) == 4


_ISLAND = "XNNPACK has no INT8 kernel for it: a float one between two conversions is faster than the built-in one"
_SLOW = "its INT8 kernel is built in, not XNNPACK's: the float one is several times as fast"

OPERATORS: tuple[OpRule, ...] = (
    *weighted(
        "Conv",
        axis=0,
        bias=2,
        when=(_volume, constant_bias),
        because="CONV_2D or DEPTHWISE_CONV_2D, per-channel weights",
    ),
    *weighted(
        "ConvTranspose",
        axis=_transposed_axis,
        bias=2,
        when=(constant_bias,),
        because="TRANSPOSE_CONV, per-channel weights",
    ),
    *weighted("Gemm", axis=gemm_axis, bias=2, when=(_plain_gemm,), because="FULLY_CONNECTED, per-channel weights"),
    *weighted("MatMul", axis=1, when=(matrix_weight,), because="FULLY_CONNECTED, per-channel weights"),
    *follows("Add Sub Mul", inputs=None, ends=_is_result, because="codes in, codes out"),
    *follows(
        "GlobalAveragePool ReduceMean ReduceSum", ends=True, because="MEAN or SUM of codes, less to convert behind it"
    ),
    *follows(
        "AveragePool",
        ends=True,
        when=(_divides_by_less,),
        because="DEPTHWISE_CONV_2D of equal weights, less to convert behind it",
    ),
    OpRule("Div", "follow", (0,), only=_by_a_number, because="MUL with the inverse of a number"),
    *follows("Elu", when=(_unit_elu,), because="codes in, codes out"),
    *fixed("Sigmoid", scale=1 / 256, zero_point=-128, because="LOGISTIC, whose codes span 0 to 1"),
    *fixed("Tanh", scale=1 / 128, zero_point=0, because="TANH, whose codes span -1 to 1"),
    *follows("ArgMax ArgMin", ends=True, because="the greatest code is the greatest value"),
    *follows("Relu", because="the activation of the operator before it, or of a product with one"),
    *follows("Clip", when=(_constant_bounds,), because="the activation of the operator before it, or where codes end"),
    *shares("MaxPool", ends=True, when=(values_only,), because="the greatest code is the greatest value"),
    *shares("GlobalMaxPool ReduceMax ReduceMin", ends=True, because="the greatest code is the greatest value"),
    *shares("Concat", inputs=None, because="one scale for all inputs: codes are copied"),
    *shares("Resize", because="codes are copied, or lie between two others"),
    *shares("Max Min", inputs=None, when=(_with_a_constant,), because="the greatest code is the greatest value"),
    *shares("Pad", when=(_pads_with_zeros,), because="codes are copied, zero has a code"),
    *shares("Expand Tile", because="codes are copied"),
    *stores(
        "Gather",
        weight=0,
        axis=gathered_axis,
        only=reads_a_table,
        when=(small_table,),
        because=TABLE,
    ),
    *shares(_COPIES, ends=_ends_exactly, because="codes are copied, a quarter of the bytes"),
    *RECURRENT,
    *stays_float("Softmax LogSoftmax", f"{_SLOW}, and rounds no probability to 1/256"),
    *stays_float("HardSwish PRelu Gelu HardSigmoid Exp Log Sqrt Pow Abs Neg Div", _ISLAND),
    *stays_float("LayerNormalization InstanceNormalization GroupNormalization", "normalization needs float precision"),
)
"""Ranges are those of codes from -128 to 127."""

_XNNPACK: tuple[OpRule, ...] = (
    *follows("LeakyRelu", when=(_steep,), because="codes in, codes out"),
    OpRule(
        "MatMul",
        "compute",
        symmetric=(1,),  # XNNPACK takes no other zero point there
        only=_of_activations,
        because="BATCH_MATMUL of codes, those of the second factor symmetric",
    ),
)
_BUILT_IN: tuple[OpRule, ...] = (
    *stays_float("LeakyRelu", "its INT8 kernel works number by number: the float one is faster, conversions included"),
    *stays_float("MatMul", f"both factors are computed at run time; {_SLOW}", only=_of_activations),
    *stays_float("Resize", "its INT8 kernel weighs with few bits: it is several codes off", only=_interpolates),
)

_FUSING = ("Conv", "ConvTranspose", "Gemm", "Add", "Sub", "Mul", "Div", "MaxPool", "AveragePool")
FUSIONS = dict.fromkeys(_FUSING, ("Relu", "Clip"))

_LACKS = {
    "int4": "files with INT4 weights are not written for it",
    "bf16": "its CPU kernels compute in float32 or INT8, and none in bfloat16",
}


def contract(target: Target) -> Contract:
    """The contract of LiteRT's CPU kernels on a board."""
    # ai-edge-litert has no build for Linux on armv7: tflite-runtime 2.14 has, whose XNNPACK takes no INT8 operators.
    built_in = target.architecture == "armv7" and target.os == "linux"
    return Contract(
        runtime="litert",
        variant="tflite-2.14" if built_in else XNNPACK,
        activation=NumberFormat("int8", symmetric=False),
        weight=NumberFormat("int8", symmetric=True),
        bias="int32",
        operators=(*(_BUILT_IN if built_in else _XNNPACK), *OPERATORS),
        fusions=FUSIONS,
        opset=(13, 25),
        hybrid=() if built_in else HYBRID,
        otherwise="LiteRT has no INT8 kernel for this operator that pays",
        half="weights stored as float16, half the size, and widened when the model is loaded: computed in float32",
        lacks=_LACKS,
        static=True,
        integer_io=True,
    )
