"""Scale math: ranges to scales, weights to integers, biases to the accumulator's grid.

The uniform affine scheme is that of Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (CVPR 2018): real = scale * (q - zero_point), with zero exactly representable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dsedge.quant.contract import NumberFormat
from dsedge.quant.plan import QParams

TINY = float(np.finfo(np.float32).tiny) * 2**24
"""The least scale: small enough never to matter, large enough that products of two scales stay normal numbers."""

BIAS_LIMIT = 2.0**30
"""The greatest bias, in steps of the accumulator's grid: what is summed onto it fits into 32 bits too."""


def activation_qparams(low: float, high: float, format: NumberFormat) -> QParams:
    """Per-tensor parameters for a range.

    Args:
        low, high: the range of real values; widened to hold zero. Where nothing but zero was seen any scale will do,
            and one that is too small is too great a ratio for runtimes: the range is then that to 1.
        format: the format of activations.

    Returns:
        Parameters of shape (). The scale is rounded down to the float32 grid where rounding up would let the greatest
        code exceed `high`: a runtime then sees that saturation alone implements a Clip to `high`.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    high = 1.0 if low == high else high
    qmin, qmax = format.limits
    if format.symmetric:
        bound = max(-low, high)
        zero_point = 0 if format.dtype == "int8" else 2 ** (format.bits - 1)
        scale = np.float32(max(bound / (qmax - zero_point), TINY))
    else:
        scale = np.float32(max((high - low) / (qmax - qmin), TINY))
        zero_point = int(np.clip(np.rint(qmin - low / float(scale)), qmin, qmax))
        if zero_point == qmin and scale > TINY and np.float32(scale * np.float32(qmax - qmin)) > np.float32(high):
            scale = np.nextafter(scale, np.float32(0), dtype=np.float32)
    return QParams(np.array(scale, np.float32), np.array(zero_point, format.dtype), format.dtype)


def weight_qparams(
    weight: npt.NDArray[np.floating[Any]],
    axis: int | None,
    format: NumberFormat,
    *,
    bias: npt.NDArray[np.floating[Any]] | None = None,
    input_scale: float | None = None,
) -> QParams:
    """Symmetric parameters for a weight, per channel along `axis` or per tensor, from its greatest magnitude.

    Args:
        weight: any shape.
        axis: the channel axis, or None.
        format: a symmetric format.
        bias: shape [channels]; with `input_scale` it raises the scale of channels whose weights are so small that the
            bias would not fit into 32 bits on the grid input_scale * scale.
        input_scale: scale of the activation that the weight is multiplied with.

    Returns:
        Parameters of shape [channels], or () per tensor.
    """
    _, qmax = format.limits
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    bound = np.abs(weight).max(axis=others) if weight.size else np.zeros(())
    scale = np.maximum(np.asarray(bound, np.float64) / qmax, TINY)
    if bias is not None and input_scale is not None:
        floor = np.abs(bias).astype(np.float64) / (input_scale * BIAS_LIMIT)
        scale = np.maximum(scale, floor if axis is not None else floor.max(initial=0.0))
    scale32 = scale.astype(np.float32)
    return QParams(scale32, np.zeros(scale32.shape, format.dtype), format.dtype, axis)


def quantize(x: npt.NDArray[np.floating[Any]], params: QParams, format: NumberFormat) -> npt.NDArray[np.integer[Any]]:
    """Real values to integers: round half to even, then saturate, as ONNX's QuantizeLinear does.

    Args:
        x: any shape.
        params: per tensor, per channel along `params.axis`, or in blocks along it.
        format: gives the limits.

    Returns:
        Integers of `params.dtype`, the shape of `x`.
    """
    scale, zero_point = (spread(values, params, x.shape) for values in (params.scale, params.zero_point))
    q = np.rint(x / scale) + zero_point.astype(np.float32)
    codes: npt.NDArray[np.integer[Any]] = np.clip(q, *format.limits).astype(params.dtype)
    return codes


def spread(values: npt.NDArray[Any], params: QParams, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Scales or zero points in a shape that broadcasts against the numbers that they are for, float32 or integers.

    Args:
        values: `params.scale` or `params.zero_point`.
        params: says how they lie.
        shape: of the numbers.
    """
    if params.block is not None:
        assert params.axis is not None
        return np.repeat(values, params.block, params.axis).take(range(shape[params.axis]), params.axis)
    sides = [1] * len(shape)
    if params.axis is not None:
        sides[params.axis] = -1
    return values.reshape(sides)


def quantize_bias(
    bias: npt.NDArray[np.floating[Any]], input_scale: float, weight_scale: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """A bias on the accumulator's grid.

    Args:
        bias: float, shape [channels].
        input_scale: scale of the activation.
        weight_scale: shape [channels] or ().

    Returns:
        int32 values of shape [channels], and their scale, the shape of `weight_scale`.
    """
    scale = (np.float32(input_scale) * weight_scale).astype(np.float32)
    limit = np.iinfo(np.int32)
    q = np.clip(np.rint(bias.astype(np.float64) / scale.astype(np.float64)), limit.min, limit.max)
    return q.astype(np.int32), scale
