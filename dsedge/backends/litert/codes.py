"""What a Q/DQ graph says about codes: parameters of its pairs, constants, and where an activation cuts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dsedge.quant.plan import QParams


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
    zero = np.zeros(scales.shape, np.uint8) if given is None or given.const_value is None else given.const_value.numpy()
    if scales.size == 1:
        return QParams(scales.reshape(()), zero.reshape(()), zero.dtype.name)
    return QParams(scales, zero, zero.dtype.name, node.attributes.get_int("axis", 1))


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


def dequantized(codes: np.ndarray, params: QParams) -> np.ndarray:
    """The real values of codes, float32."""
    sides = [1] * codes.ndim
    if params.axis is not None:
        sides[params.axis] = -1
    shape = tuple(sides)
    real = (codes.astype(np.int64) - params.zero_point.reshape(shape)) * params.scale.reshape(shape)
    return np.asarray(real, np.float32)


_NONE, _RELU, _RELU_N1_TO_1, _RELU6 = 0, 1, 2, 3  # ActivationFunctionType in the schema


def activation_of(node: ir.Node, params: QParams | None) -> int | None:
    """The activation function that a node is, None where TFLite has none that does the same.

    Args:
        node: any.
        params: of its result where that is int8 codes, which may end where the node cuts.
    """
    low, high = bounds_of(node)
    if low is None or high is None:
        return None
    known = {(0.0, np.inf): _RELU, (0.0, 6.0): _RELU6, (-1.0, 1.0): _RELU_N1_TO_1}.get((low, high))
    if known is not None or params is None:
        return known
    scale, zero_point = float(params.scale), int(params.zero_point)
    with np.errstate(over="ignore"):
        reaches_top = np.rint(high / scale) + zero_point >= 127
        reaches_bottom = np.rint(low / scale) + zero_point <= -128
    if not reaches_top:
        return None
    return _NONE if reaches_bottom else _RELU if low == 0.0 else None
