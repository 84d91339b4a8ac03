from __future__ import annotations

import numpy as np
import pytest

from dsedge.quant.blocks import block_qparams
from dsedge.quant.contract import NumberFormat
from dsedge.quant.plan import QParams
from dsedge.quant.qparams import quantize, spread

FORMAT = NumberFormat("uint4", symmetric=False, bits=4, block=32)


def restored(weight: np.ndarray, params: QParams, format: NumberFormat = FORMAT) -> np.ndarray:
    codes = quantize(weight, params, format).astype(np.float32)
    scale, zero_point = (spread(v, params, weight.shape) for v in (params.scale, params.zero_point))
    return (codes - zero_point.astype(np.float32)) * scale


def db(weight: np.ndarray, params: QParams, format: NumberFormat = FORMAT) -> float:
    error = restored(weight, params, format) - weight
    return float(10 * np.log10(np.sum(weight**2) / np.sum(error**2)))


def rounded(weight: np.ndarray) -> np.ndarray:
    """Weights [K, N] rounded to the grid of each block's least and greatest value."""
    blocks = weight.reshape(-1, 32, weight.shape[1])
    low, high = np.minimum(blocks.min(1, keepdims=True), 0), np.maximum(blocks.max(1, keepdims=True), 0)
    step = (high - low) / 15
    zero = np.rint(-low / step)
    return ((np.clip(np.rint(blocks / step) + zero, 0, 15) - zero) * step).reshape(weight.shape)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("length", [256, 100, 20])
def test_shapes_and_axes_agree(axis: int, length: int) -> None:
    weight = np.random.default_rng(0).standard_normal((length, 48)).astype(np.float32)
    params = block_qparams(weight if axis == 0 else weight.T.copy(), axis, FORMAT)
    blocks = -(-length // 32)
    assert params.scale.shape == params.zero_point.shape == ((blocks, 48) if axis == 0 else (48, blocks))
    assert (params.axis, params.block, params.dtype) == (axis, 32, "uint4")
    assert params.zero_point.dtype == np.dtype("uint4")
    if axis:
        assert np.allclose(params.scale.T, block_qparams(weight, 0, FORMAT).scale)


def test_the_search_beats_rounding() -> None:
    rng = np.random.default_rng(1)
    for weight in (rng.standard_normal((1024, 64)), rng.laplace(size=(1024, 64)), rng.random((1024, 64))):
        weight = weight.astype(np.float32)
        plain = 10 * np.log10(np.sum(weight**2) / np.sum((rounded(weight) - weight) ** 2))
        assert db(weight, block_qparams(weight, 0, FORMAT)) > plain + 0.2


def test_normal_weights_reach_22_db() -> None:
    weight = np.random.default_rng(2).standard_normal((1024, 256)).astype(np.float32)
    assert db(weight, block_qparams(weight, 0, FORMAT)) > 22
    symmetric = NumberFormat("uint4", symmetric=True, bits=4, block=32)
    params = block_qparams(weight, 0, symmetric)
    assert 20.5 < db(weight, params, symmetric) < db(weight, block_qparams(weight, 0, FORMAT))
    assert np.all(params.zero_point.astype(int) == 8)


@pytest.mark.parametrize("value", [0.0, 3.0, -2.5, 1e-30, -3e37])
def test_constant_blocks_are_exact(value: float) -> None:
    weight = np.full((64, 3), value, np.float32)
    assert np.allclose(restored(weight, block_qparams(weight, 0, FORMAT)), weight, rtol=1e-6)


def test_a_large_weight_spoils_only_its_block() -> None:
    weight = np.random.default_rng(3).standard_normal((128, 8)).astype(np.float32)
    weight[0, 0] = 1000
    error = np.abs(restored(weight, block_qparams(weight, 0, FORMAT)) - weight)
    assert error[:32, 0].max() > 1
    assert max(error[32:].max(), error[:, 1:].max()) < 0.5


def test_strong_channels_keep_their_weights_exact() -> None:
    weight = np.random.default_rng(4).standard_normal((64, 200)).astype(np.float32)
    moments = np.ones(64, np.float32)
    moments[5] = 1e4
    plain, aware = block_qparams(weight, 0, FORMAT), block_qparams(weight, 0, FORMAT, moments)
    error = [np.sum((restored(weight, params) - weight) ** 2, axis=1) for params in (plain, aware)]
    assert error[1][5] < error[0][5] / 10
    assert error[1] @ moments < (error[0] @ moments) / 2
    assert np.allclose(plain.scale[1], aware.scale[1], rtol=1e-5), "the other block has no strong channel"


@pytest.mark.parametrize("moments", [np.zeros(64), np.full(64, 1e-30), np.full(64, 1e30)])
def test_moments_of_any_size_are_taken(moments: np.ndarray) -> None:
    weight = np.random.default_rng(5).standard_normal((64, 20)).astype(np.float32)
    assert db(weight, block_qparams(weight, 0, FORMAT, moments.astype(np.float32))) > 20
