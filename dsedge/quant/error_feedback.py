"""Error feedback: what rounding one row of a weight costs, the rows after it make good.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (ICLR 2023): the
rows of a linear layer's weight are rounded one after the other, and the error of each is spread over the rows that are
not rounded yet, so that the layer's output on calibration data changes least. How it spreads follows from the products
of the input's channels, H = mean(x x^T).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from dsedge.quant.blocks import Floats, block_qparams
from dsedge.quant.contract import NumberFormat
from dsedge.quant.plan import QParams

Grid = tuple[Floats, Floats]
"""Scale and zero point of each column, [N] or [1]."""

_AT_ONCE = 64
"""Rows whose errors are gathered before they are spread over all that follow."""

_DAMPING = 0.01
"""Share of the mean square that is added to every channel's: channels that were silent stay usable."""


def round_with_feedback(
    weight: Floats, axis: int, format: NumberFormat, products: Floats
) -> tuple[Floats, QParams] | None:
    """Round a weight to INT4 blocks with error feedback.

    Args:
        weight: float32 [K, N] or [N, K].
        axis: the axis K.
        format: of the blocks.
        products: [K, K], mean products of the channels that the weight is multiplied with.

    Returns:
        The weight with every number on its block's grid, so that `quantize` finds its codes, and the parameters; None
        when the products do not fit the weight or have no inverse.
    """
    assert format.block is not None
    importance, grids = np.diag(products), []

    def grid(rows: Floats, first: int) -> Grid:
        params = block_qparams(rows, 0, format, importance[first : first + len(rows)])
        grids.append((params.scale, params.zero_point))
        return params.scale[0], params.zero_point[0].astype(np.float32)

    w = _feed_back(weight, axis, format, products, format.block, grid)
    if w is None:
        return None
    scale, zero_point = (
        np.ascontiguousarray(np.moveaxis(np.concatenate(a), 0, axis)) for a in zip(*grids, strict=True)
    )
    return w, QParams(scale, zero_point, format.dtype, axis, format.block)


def round_on_grid(
    weight: Floats, axis: int, format: NumberFormat, products: Floats, params: QParams
) -> tuple[Floats, QParams] | None:
    """Round a weight to symmetric INT8 with error feedback, on a grid that is given.

    Args:
        weight: float32 [K, N] or [N, K].
        axis: the axis K.
        format: of the weight.
        products: as for `round_with_feedback`.
        params: a scale for each of the N columns, or one for all.

    Returns:
        As `round_with_feedback`; the parameters are those given.
    """
    scale, zero_point = np.ravel(params.scale), np.zeros(1, np.float32)
    w = _feed_back(weight, axis, format, products, _AT_ONCE, lambda rows, first: (scale, zero_point))
    return None if w is None else (w, params)


def _feed_back(
    weight: Floats,
    axis: int,
    format: NumberFormat,
    products: Floats,
    at_once: int,
    grid: Callable[[Floats, int], Grid],
) -> Floats | None:
    """The weight with every number on its grid; `grid` gives that of the rows from `first` on, as they are by then."""
    w = np.moveaxis(weight, axis, 0).astype(np.float32, order="C", copy=True)
    if products.shape != (len(w), len(w)):
        return None
    spread = _feedback(products)
    if spread is None:
        return None
    for first in range(0, len(w), at_once):
        last = min(first + at_once, len(w))
        scale, zero_point = grid(w[first:last], first)
        errors = np.empty_like(w[first:last])
        for k in range(first, last):
            on_grid = (np.clip(np.rint(w[k] / scale) + zero_point, *format.limits) - zero_point) * scale
            errors[k - first] = (w[k] - on_grid) / spread[k, k]
            w[k] = on_grid
            w[k + 1 : last] -= np.outer(spread[k, k + 1 : last], errors[k - first])
        w[last:] -= spread[first:last, last:].T @ errors
    return np.ascontiguousarray(np.moveaxis(w, 0, axis))


def _feedback(products: Floats) -> Floats | None:
    """The upper triangular U with U^T U = H^-1: row k says how the error of row k spreads over those behind it."""
    h = products.astype(np.float64) / max(float(np.mean(np.diag(products))), 1e-30) + _DAMPING * np.eye(len(products))
    try:
        # H = R R^T with R upper triangular, from the Cholesky factor of H with its order turned; then U = R^-1.
        factor = _inverse(np.asarray(np.linalg.cholesky(h[::-1, ::-1])[::-1, ::-1], np.float64))
    except np.linalg.LinAlgError:
        return None
    return factor.astype(np.float32) if np.isfinite(factor).all() else None


def _inverse(upper: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of an upper triangular matrix, by halves: a sixth of the work of a general inverse."""
    half = len(upper) // 2
    if half < 64:
        return np.triu(np.linalg.inv(upper))
    inverse = np.zeros_like(upper)
    inverse[:half, :half] = first = _inverse(upper[:half, :half])
    inverse[half:, half:] = second = _inverse(upper[half:, half:])
    inverse[:half, half:] = -first @ upper[:half, half:] @ second
    return inverse
