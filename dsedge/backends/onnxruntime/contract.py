"""ONNX Runtime's contracts: the CPU kernels (MLAS) and the Q/DQ patterns that its optimizer turns into them.

The optimizer matches patterns all or nothing: a heavy operator whose Q/DQ surroundings do not match runs in float with
the conversions around it, slower than the float model. So a row says exactly where Q/DQ goes.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import onnx_ir as ir

from dsedge.backends.onnxruntime.sub_pixel import obstacle
from dsedge.model import dims, static_shape
from dsedge.quant.conditions import constant_bias, gemm_axis, matrix_weight, values_only
from dsedge.quant.contract import (
    Contract,
    NumberFormat,
    OpRule,
    dynamic,
    follows,
    fuses,
    shares,
    stays_float,
    stores,
    weighted,
)
from dsedge.target import Target

_COPIES = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Gather", "Expand")
_CHEAPER = ("Slice", "DepthToSpace")
_MOVES = (*_COPIES, *_CHEAPER, "MaxPool", "Resize", "Split")

Variant = Literal["x86-vnni", "x86", "arm-dotprod", "arm"]


_LEAST_MULTIPLIES = 2**17
"""Matrix products below it are slower in INT8, conversions included; `tools/gemm_threshold.py` measures where."""


_KEEPS_ROWS = frozenset("Gemm Reshape LayerNormalization Gelu Relu Tanh Sigmoid Add Sub Mul Div".split())
_SEQUENCE = 16
"""Rows that a sequence of unknown length is taken for: few, so that a layer is not INT8 for a length it never has."""


_LEAST_TABLE = 2**14
"""Numbers in a table that is worth the three small operators that widen its rows."""

_LEAST_BLOCKED = 2**17
"""Weights of fewer numbers are slower in INT4 than in float; `tools/int4_linear.py` measures it."""


_STEM_CHANNELS, _STEM_MULTIPLIES, _STEM_OUTPUTS = 4, 3000, 64
"""On x86, a convolution over fewer channels a group, with fewer multiplies a pixel and group and fewer outputs, runs
faster in float when its input is float anyway: an RGB stem, the depthwise one behind it. `tools/stem_threshold.py`
measures it."""


_VOLUME_CHANNELS = 16
"""Over three axes of space, an INT8 convolution of fewer channels a group is slower, since it gathers its inputs one by
one. `tools/volume_threshold.py` measures it."""


_LANES, _LARGEST_RAGGED = 16, 9
"""On x86, the INT8 kernel of a depthwise convolution takes `_LANES` channels at a time and the rest one by one: where
there is a rest, and more than `_LARGEST_RAGGED` taps, the float one is faster. `tools/depthwise_threshold.py` measures
it."""


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
    groups = node.attributes.get_int("group", 1)
    multiplies, outputs = math.prod(weight) // groups, weight[0] // groups
    if weight[1] < _STEM_CHANNELS and multiplies < _STEM_MULTIPLIES and outputs < _STEM_OUTPUTS:
        return f"{multiplies} multiplies a pixel are too few to begin INT8 with: the float kernel is faster"
    return None


def _thin_volume(node: ir.Node) -> str | None:
    weight = static_shape(node.inputs[1]) if node.inputs[1] is not None else None
    if weight is None or len(weight) < 5 or weight[1] >= _VOLUME_CHANNELS:
        return None
    return f"over three axes of space, the INT8 kernel is slow on {weight[1]} channels: the float one is faster"


def _ragged(node: ir.Node) -> str | None:
    weight = static_shape(node.inputs[1]) if node.inputs[1] is not None else None
    if weight is None or weight[1] > 1 or weight[0] % _LANES == 0 or math.prod(weight[2:]) <= _LARGEST_RAGGED:
        return None
    if math.prod(node.attributes.get_ints("strides", [1])) > 1 or node.attributes.get_int("group", 1) == 1:
        return None
    return f"the INT8 kernel is slow on {weight[0]} channels, no multiple of {_LANES}: the float one is faster"


def _rows(value: ir.Value | None) -> int:
    """How many rows a linear layer has: a batch of unknown size counts 1, a sequence of unknown length `_SEQUENCE`.

    The rows of a matrix that was made of a sequence are found where its axes are still apart.
    """
    shape = dims(value) if value is not None else None
    while value is not None and shape is not None and len(shape) == 2 and not isinstance(shape[0], int):
        producer = value.producer()
        if producer is None or producer.op_type not in _KEEPS_ROWS:
            break
        value = producer.inputs[0]
        before = dims(value) if value is not None else None
        if producer.op_type == "Reshape" and (before is None or before[-1:] != shape[-1:]):
            break
        shape = before
    return math.prod(d if isinstance(d, int) else _SEQUENCE if i else 1 for i, d in enumerate((shape or ())[:-1]))


def _large_enough(node: ir.Node) -> str | None:
    weight = static_shape(node.inputs[1]) if node.inputs[1] is not None else None
    multiplies = _rows(node.inputs[0]) * math.prod(weight or ())
    if weight is not None and multiplies < _LEAST_MULTIPLIES:
        return f"{multiplies} multiplies are too few: converting its input would cost more than INT8 saves"
    return None


def _bias_per_column(node: ir.Node) -> str | None:
    bias = static_shape(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    weight = static_shape(node.inputs[1]) if node.inputs[1] is not None else None
    if bias is not None and weight is not None and bias != (weight[gemm_axis(node)],):
        return "its bias does not have a number for each column"
    return None


def _rows_of_table(node: ir.Node) -> str | None:
    table = node.inputs[0]
    if node.attributes.get_int("axis", 0) or table is None or table.shape is None or len(table.shape) != 2:
        return "it does not pick rows of a matrix"
    return None


def _reads_a_table(node: ir.Node) -> bool:
    table = node.inputs[0]
    return table is not None and table.const_value is not None and table.dtype == ir.DataType.FLOAT


def _large_table(node: ir.Node) -> str | None:
    table = static_shape(node.inputs[0]) if node.inputs[0] is not None else None
    if table is not None and math.prod(table) < _LEAST_TABLE:
        return f"a table of {math.prod(table)} numbers is too small for INT8 to save anything"
    return None


def _worth_blocks(node: ir.Node) -> str | None:
    value = node.inputs[0 if node.op_type == "Gather" else 1]
    weight = static_shape(value) if value is not None else None
    if weight is not None and math.prod(weight) < _LEAST_BLOCKED:
        return f"{math.prod(weight)} weights are too few for INT4 to make the model smaller or faster"
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


def _not_rewritten(node: ir.Node) -> str | None:
    """Why `prepare` cannot write a transposed convolution as a convolution."""
    why = obstacle(node)
    return f"ONNX Runtime has no INT8 kernel for it, and {why}" if why else None


def is_pointwise(node: ir.Node) -> bool:
    """Whether a convolution is a matrix product over pixels, with channels, height and width known."""
    if node.op_type != "Conv" or node.domain or node.inputs[0] is None or node.inputs[1] is None:
        return False
    weight, shape = static_shape(node.inputs[1]), dims(node.inputs[0])
    if weight is None or len(weight) != 4 or shape is None or not all(isinstance(d, int) for d in shape[1:]):
        return False
    plain = node.attributes.get_int("group", 1) == 1 and not any(node.attributes.get_ints("pads", (0,)))
    return weight[2:] == (1, 1) and plain and set(node.attributes.get_ints("strides", (1,))) == {1}


def _conv(x86: bool) -> tuple[OpRule, ...]:
    return weighted(
        "Conv",
        axis=0,
        bias=2,
        alone=_too_light if x86 else None,
        open_end=is_pointwise,
        when=(constant_bias, _thin_volume, *((_ragged,) if x86 else ())),
        because="QLinearConv, per-channel weights",
    )


TABLE = "a table in INT8, a scale for each row; the rows that are read become float"

OPERATORS: tuple[OpRule, ...] = (
    *weighted(
        "Gemm",
        axis=gemm_axis,
        bias=2,
        output=False,
        when=(_plain_gemm, _large_enough),
        because="QGemm, float result",
    ),
    *weighted("MatMul", axis=1, when=(matrix_weight, _large_enough), because="QLinearMatMul, per-column weights"),
    *follows("Add Mul", inputs=None, because="QLinearAdd / QLinearMul: a float one would convert both sides"),
    *follows("Sigmoid LeakyRelu", because="a table of 256 entries"),
    *follows("HardSwish", because="QLinearAdd, whose codes end at 0 and 6, and QLinearMul"),
    *follows(
        "AveragePool GlobalAveragePool", ends=True, because="a float pool would convert more data than it returns"
    ),
    *follows("Relu", because="saturation of the quantizer behind it"),
    *fuses("Clip", when=(_clips_at_zero,), because="saturation of the quantizer behind it"),
    *stores(
        "Gather",
        weight=0,
        axis=0,
        only=_reads_a_table,
        when=(_rows_of_table, _large_table),
        because=TABLE,
    ),
    *shares("MaxPool", ends=True, when=(values_only,), because="the greatest code is the greatest value"),
    *shares("ReduceMax", ends=True, because="the greatest code is the greatest value"),
    *shares("Concat", inputs=None, separate=_clipped_apart, because="one scale for all inputs: codes are copied"),
    *shares("Resize", when=(_nearest,), because="copies codes"),
    *shares("Split", when=(_all_outputs_used,), because="copies codes"),
    *shares(" ".join(_COPIES), because="copies codes"),
    *shares(" ".join(_CHEAPER), ends=True, because="copies codes, a quarter of the bytes"),
    *dynamic(
        "LSTM",
        weights=(1, 2),
        axis=None,
        when=(_time_major,),
        because="DynamicQuantizeLSTM: static Q/DQ would leave it float",
    ),
    *stays_float("GRU RNN", "ONNX Runtime has no INT8 kernel for it; static Q/DQ around it would only add conversions"),
    *stays_float("Softmax LogSoftmax", "QLinearSoftmax is several times slower than the float kernel"),
    *stays_float("ConvTranspose", "it is a convolution in an INT8 graph only", when=(_not_rewritten,)),
    *stays_float("Pad SpaceToDepth", "ONNX Runtime has no Q/DQ pattern for it: it would be converted on both sides"),
    *stays_float("LayerNormalization InstanceNormalization", "normalization needs float precision"),
)

_COLUMNS = "DynamicQuantizeMatMul: per-column weights, and activations rounded as they come"

HYBRID: tuple[OpRule, ...] = (
    *dynamic(
        "Gemm", weights=(1,), axis=gemm_axis, when=(_plain_gemm, _bias_per_column, _large_enough), because=_COLUMNS
    ),
    *dynamic("MatMul", weights=(1,), axis=1, when=(matrix_weight, _large_enough), because=_COLUMNS),
    *dynamic("Gather", weights=(0,), axis=0, when=(_rows_of_table, _large_table), because=TABLE),
    *(rule for rule in OPERATORS if rule.kind == "dynamic"),
)
"""What needs no calibration (`--precision int8_dynamic`). `tools/gemm_threshold.py --dynamic` measures it."""

_BLOCKS = "INT4 in blocks of 32, activations rounded to INT8 as they come"

BLOCKED: tuple[OpRule, ...] = (
    *dynamic("MatMul", weights=(1,), axis=0, when=(matrix_weight,), because=f"MatMulNBits: {_BLOCKS}"),
    *dynamic(
        "Gemm",
        weights=(1,),
        axis=lambda node: 1 - gemm_axis(node),
        when=(_plain_gemm, _bias_per_column),
        because=f"MatMulNBits: {_BLOCKS}",
    ),
    *dynamic(
        "Gather",
        weights=(0,),
        axis=1,
        when=(_rows_of_table,),
        because="GatherBlockQuantized: INT4 in blocks of 32, rows are widened as they are read",
    ),
)
"""What the runtime's operators for INT4 blocks can take; the contract adds what is worth it."""

FUSIONS = {"Conv": ("Relu", "Clip"), "Add": ("Relu", "Clip")}

BLOCK = NumberFormat("uint4", symmetric=False, bits=4, block=32)
"""Blocks of 16 are slower and larger, those of 64 lose 1 dB; a zero point gains 1 dB and costs no time.
`tools/int4_linear.py` measures it."""

_HALF = "weights stored as float16, half the size, and widened when the model is loaded: computed in float32"
_LACKS = {"bf16": "its CPU kernels compute in float32 or INT8, and none in bfloat16"}
_NO_BLOCKS = {"int4": "it has INT4 kernels for x86 with AVX2 and for 64-bit ARM, and elsewhere widens at every run"}

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
    blocks = target.architecture == "aarch64" or "avx2" in features
    half = f"{_HALF}, because its float16 kernels for this CPU are not verified" if "fp16" in features else _HALF
    return Contract(
        runtime="onnxruntime",
        variant=variant,
        activation=activation,
        weight=weight,
        bias="int32",
        operators=(*_conv(target.architecture == "x86_64"), *OPERATORS),
        fusions=FUSIONS,
        opset=(13, 25),
        otherwise="ONNX Runtime has no INT8 kernel for this operator that pays",
        block=BLOCK if blocks else None,
        blocked=tuple(replace(rule, when=(*rule.when, _worth_blocks)) for rule in BLOCKED) if blocks else (),
        hybrid=HYBRID,
        half=half,
        lacks=_LACKS if blocks else _LACKS | _NO_BLOCKS,
    )
