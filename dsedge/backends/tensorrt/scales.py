"""Scales of weights in float16: below its normal numbers it has few digits, and the codes make up for that."""

from __future__ import annotations

import numpy as np

LEAST_SCALE = float(np.finfo(np.float16).smallest_normal)
"""Below it float16 loses digits."""
_LEAST = np.finfo(np.float16).smallest_subnormal


def half_scale(scale: np.ndarray) -> np.ndarray:
    """Scales in float16, above zero, which the parser demands; those below `LEAST_SCALE` are rounded up.

    So no code leaves its range when it is counted in them anew, see `recoded`.
    """
    half: np.ndarray = np.maximum(scale, np.float32(_LEAST)).astype(np.float16)
    rounded: np.ndarray = np.where((half < LEAST_SCALE) & (half < scale), np.nextafter(half, np.float16(1)), half)
    return rounded


def recoded(codes: np.ndarray, scale: np.ndarray, half: np.ndarray, axis: int, block: int) -> np.ndarray:
    """Codes counted in the scales of `half_scale`, where these have few digits; elsewhere they stay.

    A weight is then off by half a step of its scale, as quantization itself makes it.

    Args:
        codes: symmetric codes of a constant.
        scale: the scales that they are counted in, one for all, one for each channel, or one for each block.
        half: the same in float16.
        axis: of the channels or blocks.
        block: length of a block, 0 where there are none.
    """
    ratio = np.where(half < LEAST_SCALE, scale / half.astype(np.float32), np.float32(1))
    if block:
        ratio = np.repeat(ratio, block, axis).take(np.arange(codes.shape[axis]), axis)
    elif ratio.size > 1:
        ratio = ratio.reshape([-1 if i == axis % codes.ndim else 1 for i in range(codes.ndim)])
    return np.rint(codes.astype(np.float32) * ratio).astype(codes.dtype)
