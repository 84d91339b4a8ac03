"""ONNX Runtime's contracts: the CPU kernels (MLAS) and the Q/DQ patterns that its optimizer turns into them.

The optimizer matches patterns all or nothing: a heavy operator whose Q/DQ surroundings do not match runs in float with
the conversions around it, slower than the float model. So a row says exactly where Q/DQ goes.
"""

from __future__ import annotations

import math
from typing import Literal

import onnx_ir as ir

from dsedge.model import dims, static_shape
from dsedge.quant.contract import (
    Condition,
    Contract,
    NumberFormat,
    OpRule,
    dynamic,
    follows,
    fuses,
    shares,
    stays_float,
    weighted,
)
from dsedge.target import Target

_COPIES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Expand", "DepthToSpace")
_MOVES = (*_COPIES, "MaxPool", "Resize", "Split")

Variant = Literal["x86-vnni", "x86", "arm-dotprod", "arm"]


_LEAST_MULTIPLIES = 2**17
"""Matrix products below it are slower in INT8, conversions included; `tools/gemm_threshold.py` measures where."""


_STEM_CHANNELS, _STEM_MULTIPLIES = 4, 3000
"""On x86, a convolution over fewer channels a group, with fewer multiplies a pixel and group, runs faster in float when
its input is float anyway: an RGB stem, the depthwise one behind it. `tools/stem_threshold.py` measures it."""


def _gemm_axis(node: ir.Node) -> int:
    return 0 if node.attributes.get_int("transB", 0) else 1


def _plain_gemm(node: ir.Node) -> str | None:
    if node.attributes.get_float("alpha", 1.0) != 1.0 or node.attributes.get_float("beta", 1.0) != 1.0:
        return "alpha or beta is not 1, and QGemm adds the bias on the accumulator's grid"
    if node.attributes.get_int("transA", 0):
        return "its input is transposed (transA)"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and (bias.const_value is None or bias.shape is None or len(bias.shape) != 1):
        return "its bias is not a constant vector"
    return None


def _too_light(node: ir.Node) -> str | None:
    weight = static_shape(node.inputs[1]) if node.inputs[1] is not None else None
    users = list(node.outputs[0].consumers())
    users += [behind for user in users if user.op_type in FUSIONS["Conv"] for behind in user.outputs[0].consumers()]
    if any(user.op_type == "MaxPool" for user in users):
        return None  # the optimizer moves the quantizer above the pool, into a layout whose INT8 pool is slow
    if weight is None:
        return None
    multiplies = math.prod(weight) // node.attributes.get_int("group", 1)
    if weight[1] < _STEM_CHANNELS and multiplies < _STEM_MULTIPLIES:
        return f"{multiplies} multiplies a pixel are too few to begin INT8 with: the float kernel is faster"
    return None


def _large_enough(node: ir.Node) -> str | None:
    rows = [d for d in (dims(node.inputs[0]) or ())[:-1] if isinstance(d, int)] if node.inputs[0] is not None else []
    weight = static_shape(node.inputs[1]) if node.inputs[1] is not None else None
    multiplies = math.prod(rows) * math.prod(weight or ())
    if weight is not None and multiplies < _LEAST_MULTIPLIES:
        return f"{multiplies} multiplies are too few: converting its input would cost more than INT8 saves"
    return None


def _constant_bias(node: ir.Node) -> str | None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return "its bias is not a constant" if bias is not None and bias.const_value is None else None


def _matrix_weight(node: ir.Node) -> str | None:
    weight = node.inputs[1]
    if weight is None or weight.shape is None or len(weight.shape) != 2:
        return "its weight is not a matrix"
    return None


def _values_only(node: ir.Node) -> str | None:
    indices = node.outputs[1] if len(node.outputs) > 1 else None
    if indices is not None and (indices.uses() or indices.is_graph_output()):
        return "its second output, the indices, is used"
    return None


def _nearest(node: ir.Node) -> str | None:
    mode = node.attributes.get_string("mode", "nearest")
    return None if mode == "nearest" else f"{mode} interpolation has no INT8 pattern"


def _all_outputs_used(node: ir.Node) -> str | None:
    unused = any(not out.uses() and not out.is_graph_output() for out in node.outputs)
    return "one of its outputs is not used, and the pattern needs a quantizer on each" if unused else None


def _clips_at_zero(node: ir.Node) -> str | None:
    """A quantizer saturates at zero exactly, since zero has a code; at another bound only nearly."""
    low = node.inputs[1] if len(node.inputs) > 1 else None
    if low is None or low.const_value is None or float(low.const_value.numpy()) != 0.0:
        return "its lower bound is not zero, so the quantizer behind it does not do the same"
    return None


def _clipped_apart(node: ir.Node) -> str | None:
    """A Relu or Clip is fused only if the quantizer behind it saturates where it does."""
    bounds = {_clip_bound(value) for value in node.inputs if value is not None}
    return "its inputs are clipped differently, one scale could not saturate for all" if len(bounds) > 1 else None


def _clip_bound(value: ir.Value) -> float | None:
    """Where a value that was clipped at zero ends, inf behind a Relu; None for a value that was not clipped."""
    producer = value.producer()
    if producer is None:
        return None
    if producer.op_type in _MOVES and producer.inputs[0] is not None:
        return _clip_bound(producer.inputs[0])
    if producer.op_type == "Concat":
        bounds = {_clip_bound(v) for v in producer.inputs if v is not None}
        return bounds.pop() if len(bounds) == 1 else None
    if producer.op_type == "Relu":
        return math.inf
    if producer.op_type == "Clip" and _clips_at_zero(producer) is None:
        high = producer.inputs[2] if len(producer.inputs) > 2 else None
        return math.inf if high is None or high.const_value is None else float(high.const_value.numpy())
    return None


def _time_major(node: ir.Node) -> str | None:
    if node.attributes.get_int("layout", 0):
        return "DynamicQuantizeLSTM reads time-major sequences only (layout 0)"
    return None


def _conv(alone: Condition | None) -> tuple[OpRule, ...]:
    because = "QLinearConv, per-channel weights"
    return weighted("Conv", axis=0, bias=2, alone=alone, when=(_constant_bias,), because=because)


OPERATORS: tuple[OpRule, ...] = (
    *weighted(
        "Gemm",
        axis=_gemm_axis,
        bias=2,
        output=False,
        when=(_plain_gemm, _large_enough),
        because="QGemm, float result",
    ),
    *weighted("MatMul", axis=1, when=(_matrix_weight, _large_enough), because="QLinearMatMul, per-column weights"),
    *follows("Add Mul", inputs=None, because="QLinearAdd / QLinearMul: a float one would convert both sides"),
    *follows("Sigmoid LeakyRelu", because="a table of 256 entries"),
    *follows(
        "AveragePool GlobalAveragePool", ends=True, because="a float pool would convert more data than it returns"
    ),
    *follows("Relu", because="saturation of the quantizer behind it"),
    *fuses("Clip", when=(_clips_at_zero,), because="saturation of the quantizer behind it"),
    *shares("MaxPool", ends=True, when=(_values_only,), because="the greatest code is the greatest value"),
    *shares("Concat", inputs=None, separate=_clipped_apart, because="one scale for all inputs: codes are copied"),
    *shares("Resize", when=(_nearest,), because="copies codes"),
    *shares("Split", when=(_all_outputs_used,), because="copies codes"),
    *shares(" ".join(_COPIES), because="copies codes"),
    *dynamic(
        "LSTM",
        weights=(1, 2),
        axis=None,
        when=(_time_major,),
        because="DynamicQuantizeLSTM: static Q/DQ would leave it float",
    ),
    *stays_float("GRU RNN", "ONNX Runtime has no INT8 kernel for it; static Q/DQ around it would only add conversions"),
    *stays_float("Softmax LogSoftmax", "QLinearSoftmax is several times slower than the float kernel"),
    *stays_float("Pad SpaceToDepth", "ONNX Runtime has no Q/DQ pattern for it: it would be converted on both sides"),
    *stays_float("LayerNormalization InstanceNormalization", "normalization needs float precision"),
)

FUSIONS = {"Conv": ("Relu", "Clip"), "Add": ("Relu", "Clip")}

_U8, _S8 = NumberFormat("uint8", symmetric=False), NumberFormat("int8", symmetric=False)
_WEIGHT = NumberFormat("int8", symmetric=True)

_FORMATS: dict[Variant, tuple[NumberFormat, NumberFormat]] = {
    "x86-vnni": (_U8, _WEIGHT),
    # Without VNNI two products of u8 and s8 are added in 16 bits and saturate, unless weights keep to 7 bits.
    "x86": (_U8, NumberFormat("int8", symmetric=True, bits=7)),
    "arm-dotprod": (_S8, _WEIGHT),
    # Without dot-product instructions u8 x s8 takes the fewest instructions.
    "arm": (_U8, _WEIGHT),
}


def contract(target: Target) -> Contract:
    """The contract of ONNX Runtime's CPU provider on a board."""
    features = set(target.features)
    if target.architecture == "x86_64":
        variant: Variant = "x86-vnni" if "vnni" in features else "x86"
    else:
        variant = "arm-dotprod" if "dotprod" in features else "arm"
    activation, weight = _FORMATS[variant]
    return Contract(
        runtime="onnxruntime",
        variant=variant,
        activation=activation,
        weight=weight,
        bias="int32",
        operators=(*_conv(_too_light if target.architecture == "x86_64" else None), *OPERATORS),
        fusions=FUSIONS,
        opset=(13, 25),
        otherwise="ONNX Runtime has no INT8 kernel for this operator that pays",
    )
