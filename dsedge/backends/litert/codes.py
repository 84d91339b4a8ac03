"""What a Q/DQ graph says about codes: parameters of its pairs, constants, and where an activation cuts."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dsedge.quant.plan import QParams
from dsedge.quant.qparams import BIAS_LIMIT

_LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""Of activations: smaller float32 numbers are not normal."""


_STEEPEST = 255.0
"""XNNPACK takes 256, less its own rounding, and refuses the whole file at more."""


def parameters(node: ir.Node | None) -> QParams | None:
    """Scale and zero point of a Q or DQ node; None for other nodes, and where they are computed."""
    if node is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.domain:
        return None
    scale = node.inputs[1].const_value if node.inputs[1] is not None else None
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if (
        scale is None
        or (given is not None and given.const_value is None)
        or node.attributes.get_int("block_size", 0) != 0
    ):
        return None
    scales = scale.numpy().astype(np.float32)
    if given is None or given.const_value is None:
        held = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
        dtype = np.dtype(np.uint8) if held is None or held.dtype is None else held.dtype.numpy()
        zero = np.zeros(scales.shape, dtype)
    else:
        zero = given.const_value.numpy()
    if scales.size == 1:
        return QParams(scales.reshape(()), zero.reshape(()), zero.dtype.name)
    return QParams(scales, zero, zero.dtype.name, node.attributes.get_int("axis", 1))


def why_not_activation(params: QParams | None) -> str | None:
    """Why values that are no constants cannot be codes under these parameters, None where they can."""
    if params is None:
        return "its scale or zero point is computed at run time, or differs from block to block"
    if params.axis is not None:
        return "each of its channels has a scale of its own, TFLite's activations have one"
    if params.dtype not in ("int8", "uint8", "int16"):
        return f"its codes are {params.dtype}, TFLite's are int8, uint8 or int16"
    if params.dtype == "int16" and int(params.zero_point) != 0:
        return "its int16 codes have a zero point, TFLite's have none"
    if not _LEAST_SCALE <= float(params.scale) < np.inf:
        return f"its scale is {float(params.scale):g}, with which XNNPACK's kernels cannot compute"
    return None


def too_steep(node: ir.Node, params: QParams) -> bool:
    """Whether a step of a convolution's or matrix product's accumulator is so many of its result that XNNPACK fails.

    Args:
        node: INT8, but for that.
        params: of its result.
    """
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"):
        return False
    read = [parameters(value.producer()) for value in node.inputs[:2] if value is not None]
    step = np.prod([float(p.scale.max()) for p in read if p is not None])
    return bool(step >= _STEEPEST * float(params.scale))


def constant_of(value: ir.Value) -> tuple[np.ndarray, QParams | None] | None:
    """The array of a constant, and its parameters where it is codes; float16 where a Cast widens such a one."""
    if value.const_value is not None:
        return value.const_value.numpy(), None
    producer = value.producer()
    if producer is None or producer.domain or producer.op_type not in ("DequantizeLinear", "Cast"):
        return None
    source = producer.inputs[0]
    if source is None or source.const_value is None:
        return None
    if producer.op_type == "Cast":
        half = source.dtype == ir.DataType.FLOAT16 and value.dtype == ir.DataType.FLOAT
        return (source.const_value.numpy(), None) if half else None
    params = parameters(producer)
    array = source.const_value.numpy()
    if params is not None and params.axis is not None and params.axis < 0:
        params = replace(params, axis=params.axis + array.ndim)
    return (array, params) if params is not None else None


def signed(codes: np.ndarray, params: QParams) -> tuple[np.ndarray, QParams]:
    """The same numbers as int8 codes where they are uint8."""
    if params.dtype != "uint8":
        return codes, params
    zero = (params.zero_point.astype(np.int16) - 128).astype(np.int8)
    return (codes.astype(np.int16) - 128).astype(np.int8), replace(params, zero_point=zero, dtype="int8")


def of_eight_bits(value: ir.Value) -> bool:
    """Whether a value comes through a DequantizeLinear of int8 or uint8; only a constant has scales of its channels."""
    params = parameters(value.producer())
    if params is None or params.dtype not in ("int8", "uint8"):
        return False
    return params.axis is None or constant_of(value) is not None


def bounds_of(node: ir.Node) -> tuple[float | None, float | None]:
    """Where a Relu or Clip begins and ends; None, None for anything else."""
    if node.domain or node.op_type not in ("Relu", "Clip"):
        return None, None
    if node.op_type == "Relu":
        return 0.0, np.inf
    bounds = [-np.inf, np.inf]
    for i in (1, 2):
        value = node.inputs[i] if i < len(node.inputs) else None
        if value is not None and (value.const_value is None or value.const_value.size != 1):
            return None, None
        if value is not None and value.const_value is not None:
            bounds[i - 1] = float(value.const_value.numpy().item())
    return bounds[0], bounds[1]


def equal(one: QParams, other: QParams) -> bool:
    """Whether two sets of parameters mean the same, whichever sign their codes have."""
    mine, others = (signed(np.zeros((), p.dtype), p)[1].zero_point for p in (one, other))
    return np.array_equal(one.scale, other.scale) and np.array_equal(mine, others)


def encoded(real: np.ndarray, params: QParams) -> np.ndarray:
    """Real values as int8 codes of one scale."""
    with np.errstate(over="ignore"):
        codes = np.rint(real / params.scale) + np.float32(params.zero_point)
    return np.clip(codes, -128, 127).astype(np.int8)


def dequantized(codes: np.ndarray, params: QParams) -> np.ndarray:
    """The real values of codes, float32."""
    sides = [1] * codes.ndim
    if params.axis is not None:
        sides[params.axis] = -1
    shape = tuple(sides)
    real = (codes.astype(np.int64) - params.zero_point.reshape(shape)) * params.scale.reshape(shape)
    return np.asarray(real, np.float32)


def bias_too_great(node: ir.Node, scale: np.ndarray) -> str | None:
    """Why the bias of a convolution or Gemm keeps it from codes: it does not fit on the grid of the accumulator.

    Args:
        node: has its bias as input 2; one that it lacks or computes at run time counts as fitting.
        scale: of the weight, () or one for each output.
    """
    source = parameters(node.inputs[0].producer()) if node.inputs[0] is not None else None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    found = constant_of(bias) if bias is not None else None
    if source is None or found is None:
        return None
    array, params = found
    real = (array if params is None else dequantized(array, params)).astype(np.float64)
    grid = np.asarray(source.scale * scale, np.float64) * (1 + 2**-20)  # scales that make it just fit were rounded
    size = max(real.size, grid.size)  # there may be one bias for all outputs, and one scale for all or in each group
    fits = np.abs(np.resize(real, size)) <= BIAS_LIMIT * np.resize(grid, size)
    return None if fits.all() else "its bias does not fit into 32 bits on the grid of the accumulator"


def reads_real_numbers(node: ir.Node) -> bool:
    """Whether the graph gives a node real numbers and no codes: a hybrid kernel is then the first to round them."""
    return node.inputs[0] is not None and parameters(node.inputs[0].producer()) is None


_NONE, _RELU, _RELU_N1_TO_1, _RELU6 = 0, 1, 2, 3  # ActivationFunctionType in the schema


class Activation(NamedTuple):
    """What is done behind an operator, and with it.

    Attributes:
        kind: the activation that is fused, as the schema's ActivationFunctionType counts.
        least, greatest: codes to which MAXIMUM and MINIMUM cut what it writes, None where nothing has to.
    """

    kind: int
    least: int | None = None
    greatest: int | None = None


def activation_of(node: ir.Node, params: QParams | None) -> Activation | None:
    """How an operator takes a node behind it as its activation, None where TFLite has nothing that does the same.

    Of real numbers it is one of TFLite's activations. Codes end somewhere by themselves: where that is within one code
    of a bound, nothing cuts there, and a result may be one code further out than the graph's. Elsewhere the codes are
    the graph's, because to round and to cut commute.

    Args:
        node: any.
        params: of its result where that is int8 codes.
    """
    low, high = bounds_of(node)
    if low is None or high is None:
        return None
    known = {(0.0, np.inf): _RELU, (0.0, 6.0): _RELU6, (-1.0, 1.0): _RELU_N1_TO_1}.get((low, high))
    if known is not None:
        return Activation(known)
    if params is None:
        return None
    least, greatest = (int(encoded(np.array(bound), params)) for bound in (low, high))
    relu = low == 0.0 and least > -128
    return Activation(
        _RELU if relu else _NONE,
        least if least > -127 and not relu else None,
        greatest if greatest < 126 else None,
    )
