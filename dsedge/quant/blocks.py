"""INT4 blocks: weights of 4 bits with a scale and a zero point for every few numbers in a row.

The scheme is that of ONNX's DequantizeLinear with `block_size`
(opset 21): real = scale * (code - zero_point), codes 0 to 15, zero exactly representable.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dsedge.quant.contract import NumberFormat
from dsedge.quant.plan import QParams
from dsedge.quant.qparams import TINY

CLIPPING = np.linspace(1.0, 0.7, 7, dtype=np.float32)
"""Shares of a block's range that are tried as the range of its codes."""

_LEAST_IMPORTANCE = 0.01
"""Of a row, against the mean: a channel that is silent in a few samples may speak in others."""

_CHUNK = 1 << 18
"""Numbers that are searched at a time: few enough for a CPU's cache."""

Floats = npt.NDArray[np.float32]


def block_qparams(weight: Floats, axis: int, format: NumberFormat, importance: Floats | None = None) -> QParams:
    """Parameters of a matrix in blocks, with the least squared error that a search finds.

    For each block several clipped ranges are tried. Each gives codes q, and for given codes the best scale is the
    least-squares one, <w, q> / <q, q>; the error is then |w|^2 - <w, q>^2 / <q, q>, so the range with the greatest
    <w, q>^2 / <q, q> is taken. Products are weighted by the importance of the rows: with the mean squares of the
    channels that the rows are multiplied with, the error is that of the layer's output for uncorrelated channels.
    Alternating between codes and scales is the coordinate descent of Zhang et al., "LQ-Nets" (ECCV 2018), section 3.3,
    here with one step.

    Args:
        weight: float32 [K, N] or [N, K].
        axis: the axis K that is cut into blocks; the last block may be shorter.
        format: unsigned, with its size of a block; symmetric: every zero point is the middle, 8 of 0 to 15.
        importance: of each of the K rows, [K]; None when all are alike.

    Returns:
        Parameters of the shape of `weight`, with ceil(K / block) for K.
    """
    assert format.block is not None
    blocks = -(-weight.shape[axis] // format.block)
    columns = np.moveaxis(weight, axis, 0)  # [K, N]
    rows = np.ones(len(columns), np.float32) if importance is None else importance / max(float(importance.mean()), TINY)
    rows = np.pad(rows + _LEAST_IMPORTANCE, (0, -len(rows) % format.block)).reshape(-1, format.block, 1)
    scale = np.empty((blocks, columns.shape[1]), np.float32)
    zero_point = np.empty(scale.shape, np.float32)
    at_once = max(_CHUNK // (format.block * max(columns.shape[1], 1)), 1)
    for first in range(0, blocks, at_once):
        last = first + at_once
        part = columns[first * format.block : last * format.block]
        part = np.pad(part, ((0, -len(part) % format.block), (0, 0)))
        found = _search(part.reshape(-1, format.block, columns.shape[1]), rows[first:last], format)
        scale[first:last], zero_point[first:last] = found
    back = [np.ascontiguousarray(np.moveaxis(a, 0, axis)) for a in (scale, zero_point)]
    return QParams(back[0], back[1].astype(format.dtype), format.dtype, axis, format.block)


def _search(w: Floats, importance: Floats, format: NumberFormat) -> tuple[Floats, Floats]:
    """Scale and zero point, each [blocks, N], for w [blocks, block, N] and importance [blocks, block, 1]."""
    least, greatest = format.limits
    low, high = np.minimum(w.min(axis=1), 0), np.maximum(w.max(axis=1), 0)
    if format.symmetric:
        high = np.maximum(-low, high)
        low = -high
    step = np.maximum((high / (greatest - least) - low / (greatest - least)).astype(np.float32), np.float32(TINY))
    middle = np.full_like(step, 2 ** (format.bits - 1))
    # Both ends are clipped alike, so the zero point stays.
    zero_point = middle if format.symmetric else np.clip(np.rint(-low / step), least, greatest)
    limits = (least - zero_point)[:, None], (greatest - zero_point)[:, None]
    u = w / step[:, None]  # in steps, so that no square overflows
    factor, best = np.ones_like(step), np.full_like(step, -1)
    for share in CLIPPING:
        q = u / share
        np.rint(q, out=q)
        np.clip(q, *limits, out=q)
        weighted = q * importance
        square = np.maximum(np.einsum("bkn,bkn->bn", weighted, q), np.float32(TINY))
        product = np.einsum("bkn,bkn->bn", weighted, u)
        quality = product * product / square
        better = quality > best
        best, factor = np.where(better, quality, best), np.where(better, product / square, factor)
    return np.maximum(step * factor, np.float32(TINY)), zero_point
