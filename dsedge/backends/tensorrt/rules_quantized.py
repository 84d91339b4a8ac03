"""Rules on quantizers: what the compiler makes of Q/DQ that are not as it wants them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.tensorrt.quantizers import (
    EIGHTS,
    FLOAT8,
    PRODUCTS,
    behind,
    code_type,
    constant,
    dequantized,
    nodes,
    of_constant,
    per_channel,
    quantizers,
)
from dsedge.backends.tensorrt.rule import Chip, Found, Rule, collect

RULES: list[Rule] = []
rule = collect(RULES)

BLOCKS = (32, 64, 128)
_WIDE = (ir.DataType.INT16, ir.DataType.UINT16)
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Mish", "Elu", "PRelu", "Gelu")


@rule("TRT001", "refused", because="codes are INT8, INT4 or FP8", hint="keep the bias in float: it is added in float")
def integer_bias(model: ir.Model, chip: Chip) -> Found:
    """A DequantizeLinear reads int32, as the biases of other runtimes are held."""
    for node in nodes(model, "DequantizeLinear"):
        if code_type(node) == ir.DataType.INT32:
            yield node, "a bias in int32 behind DequantizeLinear"


@rule("TRT002", "refused", because="quantization is symmetric", hint="quantize symmetrically, in int8")
def zero_point(model: ir.Model, chip: Chip) -> Found:
    """A zero point is not zero. Only a DLA takes those, behind a flag."""
    for node in quantizers(model):
        shift = constant(node, 2)
        if shift is not None and np.any(shift != 0):
            yield node, f"a zero point of {shift.ravel()[np.flatnonzero(shift)[0]]}"


@rule("TRT003", "refused", because="weights are read as int8 or int4 codes", hint="quantize weights as int8")
def unsigned_weights(model: ir.Model, chip: Chip) -> Found:
    """Constant codes are uint8 or uint4."""
    for node in nodes(model, "DequantizeLinear"):
        if node.inputs[0] is not None and node.inputs[0].const_value is not None:
            dtype = code_type(node)
            if dtype in (ir.DataType.UINT8, ir.DataType.UINT4):
                yield node, f"weights in {dtype.name.lower()}"


@rule(
    "TRT004",
    "wrong",
    because="the compiler takes the codes for int8: what lies above 127 steps is cut off, without a word",
    hint="quantize activations as int8, and write the zero point: without one ONNX means uint8",
)
def unsigned_activations(model: ir.Model, chip: Chip) -> Found:
    """Activations are uint8 with the zero point 0, or without a zero point, which means the same."""
    for node in nodes(model, "QuantizeLinear"):
        shift = constant(node, 2)
        if code_type(node) == ir.DataType.UINT8 and (shift is None or not np.any(shift)):
            yield node, "activations in uint8"


@rule("TRT005", "refused", because="there are no 16-bit codes", hint="use int8, or leave the value in float16")
def wide_codes(model: ir.Model, chip: Chip) -> Found:
    """Codes are int16 or uint16."""
    for node in quantizers(model):
        if code_type(node) in _WIDE:
            yield node, f"codes in {code_type(node).name.lower()}"


@rule("TRT006", "float", because="INT8 kernels have one scale for an input", hint="one scale for the whole activation")
def channel_activations(model: ir.Model, chip: Chip) -> Found:
    """An activation has a scale for each channel: what reads it is computed in float, on rounded values."""
    for node in nodes(model, "QuantizeLinear"):
        if per_channel(node) and not of_constant(node):
            yield node, "an activation with a scale for each channel"


@rule(
    "TRT007",
    "float",
    because="a product is INT8 where all that it multiplies is: now it is computed in float on rounded values",
    hint="quantize both, or neither",
)
def half_quantized(model: ir.Model, chip: Chip) -> Found:
    """Only one of the two inputs of a product comes from INT8 codes."""
    for node in nodes(model, *PRODUCTS):
        sides = [(i, side) for i in range(2) if (side := behind(node, i)) is not None]
        if len(sides) == 1 and code_type(sides[0][1]) in EIGHTS:
            yield node, f"only its input {sides[0][0]} is quantized"


@rule(
    "TRT008",
    "float",
    because="INT8 kernels scale what they have summed, so one scale belongs to one output channel",
    hint="axis 0 for Conv, the output axis for MatMul and Gemm (0 with transB, else the last)",
)
def weight_axis(model: ir.Model, chip: Chip) -> Found:
    """Weights have their scales along another axis than that of the output channels."""
    for node in nodes(model, "Conv", "Gemm", "MatMul"):
        weight = dequantized(node, 1)
        if weight is None or not of_constant(weight) or not per_channel(weight) or weight.inputs[0] is None:
            continue
        rank = len(weight.inputs[0].shape) if weight.inputs[0].shape is not None else 2
        first = node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1
        wanted = 0 if first else rank - 1
        axis = weight.attributes.get_int("axis", 1)
        if axis % max(rank, 1) != wanted and code_type(weight) in EIGHTS:
            yield node, f"scales of the weights along axis {axis}, not {wanted}"


@rule(
    "TRT009",
    "float",
    severity="warning",
    because="TensorRT-RTX has no INT8 kernel for it; whether TensorRT has one for this shape only a device tells",
    hint="leave it in float, or look at the engine that is built on the device",
)
def transposed(model: ir.Model, chip: Chip) -> Found:
    """A transposed convolution is quantized."""
    for node in nodes(model, "ConvTranspose"):
        if all(dequantized(node, i) is not None for i in range(2)):
            yield node, "a quantized transposed convolution"


@rule("TRT010", "refused", because="a scale is a positive number", hint="calibrate again, and look at the samples")
def bad_scale(model: ir.Model, chip: Chip) -> Found:
    """A scale is zero, negative or NaN."""
    for node in quantizers(model):
        scale = constant(node, 1)
        if scale is not None and not np.all(scale > 0):
            yield node, f"a scale of {scale.ravel()[np.flatnonzero(~(scale > 0).ravel())[0]]:g}"


@rule(
    "TRT011",
    "wrong",
    because="the compiler takes it, and all that is quantized with it comes out as zero, infinite or NaN",
    hint="look at the samples that were calibrated with, and at the weights",
)
def useless_scale(model: ir.Model, chip: Chip) -> Found:
    """A scale is infinite, or so small that its type holds it without a leading digit.

    In float16 only one of activations is: NVIDIA's own quantizer writes such scales of weights too, and `typed_graph`
    counts the codes in them.
    """
    for node in quantizers(model):
        scale = constant(node, 1)
        if scale is None or node.inputs[1] is None:
            continue
        half = node.inputs[1].dtype == ir.DataType.FLOAT16
        least = float(np.finfo(np.float16 if half else np.float32).smallest_normal)
        least = 0.0 if half and of_constant(node) else least
        bad = np.isinf(scale) | ((scale > 0) & (scale < least))
        if bad.any():
            yield node, f"a scale of {scale.ravel()[np.flatnonzero(bad)[0]]:g}"


@rule(
    "TRT012",
    "refused",
    because="tensor cores compute FP8 (E4M3) from compute capability 8.9 on",
    hint="use INT8, or float16",
)
def float8(model: ir.Model, chip: Chip) -> Found:
    """FP8 codes on a GPU that has none, or in another format than E4M3."""
    for node in quantizers(model):
        dtype = code_type(node)
        if dtype in FLOAT8 and (chip.capability < (8, 9) or dtype != ir.DataType.FLOAT8E4M3FN):
            yield node, f"codes in {dtype.name.lower()}"


@rule(
    "TRT013",
    "refused",
    because="kernels that read INT4 weights begin with compute capability 8.0",
    hint="use INT8, or float16",
)
def int4_gpu(model: ir.Model, chip: Chip) -> Found:
    """INT4 weights on a GPU before Ampere."""
    for node in nodes(model, "DequantizeLinear"):
        if code_type(node) == ir.DataType.INT4 and chip.capability < (8, 0):
            yield node, "weights in int4"


@rule(
    "TRT014",
    "wrong",
    because="the compiler multiplies codes with codes, and takes the scales of blocks for those of output channels; "
    "with more than two axes it fails",
    hint="leave the activations of this node in float: weights in blocks are widened to float",
)
def blocks_with_codes(model: ir.Model, chip: Chip) -> Found:
    """A product of weights in blocks and of quantized activations."""
    for node in nodes(model, "Gemm", "MatMul"):
        data, weight = dequantized(node, 0), dequantized(node, 1)
        if data is not None and weight is not None and weight.attributes.get_int("block_size", 0) > 0:
            yield node, "weights in blocks and quantized activations"


@rule(
    "TRT015",
    "float",
    because="only weights in blocks are widened inside of the product's kernel; these are widened before, into memory",
    hint="scales in blocks of 32, 64 or 128 along the axis that is summed over",
)
def int4_blocks(model: ir.Model, chip: Chip) -> Found:
    """INT4 weights have one scale, one for each channel, or blocks as long as the axis."""
    for node in nodes(model, "DequantizeLinear"):
        scale = constant(node, 1)
        if code_type(node) != ir.DataType.INT4 or scale is None or not of_constant(node):
            continue
        axis = node.attributes.get_int("axis", 1)
        whole = scale.ndim < 2 or not -scale.ndim <= axis < scale.ndim or scale.shape[axis] == 1
        if whole or node.attributes.get_int("block_size", 0) == 0:
            yield node, "weights in int4 without blocks"


@rule(
    "TRT016",
    "runs",
    severity="warning",
    because="NVIDIA tunes its INT4 kernels for blocks of 32, 64 and 128",
    hint="blocks of 64",
)
def int4_block_size(model: ir.Model, chip: Chip) -> Found:
    """INT4 weights have blocks of another size."""
    for node in nodes(model, "DequantizeLinear"):
        size = node.attributes.get_int("block_size", 0)
        if code_type(node) == ir.DataType.INT4 and size and size not in BLOCKS:
            yield node, f"blocks of {size}"


@rule(
    "TRT017",
    "float",
    severity="warning",
    because="for 7.5 TensorRT-RTX computes INT8 convolutions in float; TensorRT has INT8 kernels for Turing",
    hint="count INT8 convolutions on the device",
)
def turing_convolution(model: ir.Model, chip: Chip) -> Found:
    """An INT8 convolution for compute capability 7.5: a note on what can be checked without the GPU."""
    for node in nodes(model, "Conv"):
        if chip.capability == (7, 5) and dequantized(node, 0) is not None and dequantized(node, 1) is not None:
            yield node, "its INT8 kernel cannot be checked here"


@rule(
    "TRT018",
    "runs",
    severity="warning",
    because="the activation is no longer part of the convolution's kernel, and the result is rounded twice",
    hint="quantize behind the activation, not before it",
)
def cut_activation(model: ir.Model, chip: Chip) -> Found:
    """Q/DQ stands between a convolution or product and the activation behind it."""
    for node in nodes(model, *_ACTIVATIONS):
        behind = dequantized(node, 0)
        codes = behind.inputs[0].producer() if behind is not None and behind.inputs[0] is not None else None
        source = codes.inputs[0].producer() if codes is not None and codes.inputs and codes.inputs[0] else None
        if source is not None and source.op_type in PRODUCTS:
            yield node, f"Q/DQ between {source.op_type} and {node.op_type}"
