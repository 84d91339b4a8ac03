from __future__ import annotations

import io

import numpy as np
import pytest

from dsedge.quant.contract import NumberFormat
from dsedge.quant.observers import BINS, LEAST_GAIN, METHODS, Method, Observer
from dsedge.quant.qparams import activation_qparams, quantize

U8 = NumberFormat("uint8", symmetric=False)


def gaussian(size: int = 200_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def observed(*parts: np.ndarray) -> Observer:
    observer = Observer(histogram=True)
    for part in parts:
        observer.update(part)
    return observer


def state(observer: Observer) -> tuple[object, ...]:
    assert observer.counts is not None
    return observer.low, observer.high, observer.width, observer.zeros, observer.counts.tolist()


def error(x: np.ndarray, low: float, high: float) -> float:
    """The mean squared error of really quantizing `x` over a range."""
    params = activation_qparams(low, high, U8)
    codes = quantize(x, params, U8).astype(np.float64)
    return float(np.mean(((codes - params.zero_point) * float(params.scale) - x) ** 2))


PARTS = [gaussian(1000, i) * 10.0**scale for i, scale in enumerate((-3, 2, 0, 5, -1))] + [np.zeros(7, np.float32)]


def test_neither_the_order_nor_the_batching_matters() -> None:
    whole = state(observed(np.concatenate(PARTS)))
    assert state(observed(*PARTS)) == whole
    assert state(observed(*reversed(PARTS))) == whole


def test_merging_is_observing_both() -> None:
    for split in range(len(PARTS) + 1):
        merged = observed(*PARTS[:split])
        merged.merge(observed(*PARTS[split:]))
        assert state(merged) == state(observed(*PARTS))


def test_a_histogram_that_widened_is_exact() -> None:
    x = np.concatenate(PARTS)
    observer = observed(*PARTS)
    edges = (np.arange(BINS + 1) - BINS // 2) * observer.width
    assert np.log2(observer.width) % 1 == 0
    np.testing.assert_array_equal(observer.counts, np.histogram(x, edges)[0])
    assert observer.zeros == 7


@pytest.mark.parametrize("shape", [(1, 256, 1024), (1, 16, 256, 256), (1, 64, 128, 128)])
@pytest.mark.parametrize("axis", [-1, -2, 1])
@pytest.mark.parametrize("place", [0, 1])
def test_a_large_tensor_is_sampled_evenly(shape: tuple[int, ...], axis: int, place: int) -> None:
    """A channel, row or column of large values counts as often as it occurs, wherever it lies."""
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    picked = [slice(None)] * x.ndim
    picked[axis] = place  # type: ignore[call-overload]
    x[tuple(picked)] = 10.0
    observer = observed(x)
    assert observer.counts is not None
    edges = (np.arange(BINS) - BINS // 2) * observer.width
    share = observer.counts[edges > 5].sum() / observer.counts.sum()
    assert share == pytest.approx(1 / shape[axis], rel=0.3)


@pytest.mark.parametrize("method", METHODS)
def test_pack_and_unpack_through_a_file(method: Method) -> None:
    made = {"a/b:0": Observer(histogram=method != "minmax"), "c": Observer(histogram=method != "minmax")}
    for i, observer in enumerate(made.values()):
        observer.update(gaussian(600, i).reshape(2, 3, 100))
    file = io.BytesIO()
    np.savez(file, **Observer.pack(made))
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        back = Observer.unpack(arrays)
    assert list(back) == list(made)
    for name, observer in made.items():
        assert back[name].range(method, 256) == observer.range(method, 256)
        np.testing.assert_array_equal(back[name].channel_means, observer.channel_means)
        assert (back[name].zeros, back[name].width) == (observer.zeros, observer.width)


def test_channel_means() -> None:
    parts = [gaussian(600, i).reshape(5, 3, 40) + np.arange(3, dtype=np.float32)[:, None] for i in range(2)]
    observer = Observer(histogram=False)
    for part in parts:
        observer.update(part)
    np.testing.assert_allclose(observer.channel_means, np.concatenate(parts).mean(axis=(0, 2)), rtol=1e-5)


def test_channel_means_are_dropped_for_good_when_the_axis_varies() -> None:
    observer = Observer(histogram=False)
    for length in (3, 4, 4):
        observer.update(np.ones((1, length), np.float32))
    assert observer.channel_means is None


def test_minmax_is_what_was_seen() -> None:
    assert Observer(histogram=False).range("minmax", 256) == (0.0, 0.0)
    observer = Observer(histogram=False)
    for part in ([1.5, 2.5], [-0.25], []):
        observer.update(np.array(part, np.float32))
    assert observer.range("minmax", 256) == (-0.25, 2.5)


def test_percentile_leaves_out_the_tails() -> None:
    x = gaussian(1_000_000)
    observer = observed(*np.split(x, 20), np.array([-30, 30], np.float32))
    low, high = observer.range("percentile", 256)
    np.testing.assert_allclose([low, high], np.quantile(x, [5e-5, 1 - 5e-5]), atol=2 * observer.width)


def test_percentile_of_mostly_zeros_keeps_zero_as_its_end() -> None:
    x = np.maximum(gaussian() - 1, 0)
    low, high = observed(x).range("percentile", 256)
    assert low == 0.0
    assert 0 < high < x.max()


@pytest.mark.parametrize(
    "x",
    [
        gaussian(20_000),
        np.maximum(gaussian(20_000), 0),
        np.concatenate([gaussian(20_000), [60.0, -40.0]]).astype(np.float32),
        np.random.default_rng(0).laplace(size=20_000).astype(np.float32),
        gaussian(20_000) + 20,
        np.where(gaussian(20_000, seed=1) > -1, 0, gaussian(20_000)).astype(np.float32),
        np.random.default_rng(0).uniform(-1, 3, 20_000).astype(np.float32),
    ],
    ids=["gaussian", "relu", "outliers", "laplace", "far from zero", "sparse", "uniform"],
)
def test_mse_range_is_near_the_best_there_is(x: np.ndarray) -> None:
    chosen = error(x, *observed(x).range("mse", 256))
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    shrink = np.linspace(0.05, 1, 20)
    lows, highs = (shrink if low < 0 else [0.0]), (shrink if high > 0 else [0.0])
    best = min(error(x, low * a, high * b) for a in lows for b in highs)
    assert chosen <= best * 1.05 * LEAST_GAIN  # less is not worth clipping for


def test_mse_range_of_a_gaussian_is_the_known_one() -> None:
    """3.92 standard deviations: Banner et al., "Post training 4-bit quantization" (2019), table of optimal clipping."""
    low, high = observed(*np.split(gaussian(1_000_000), 20)).range("mse", 256)
    assert 3.7 < -low < 4.2
    assert 3.7 < high < 4.2


def test_entropy_clips_outliers_and_keeps_the_bulk() -> None:
    x = np.concatenate([gaussian(), [30.0]]).astype(np.float32)
    low, high = observed(x).range("entropy", 256)
    assert low >= x.min()
    assert 2.5 < high < 15
    low, high = observed(np.maximum(x, 0)).range("entropy", 256)
    assert low == 0.0
    assert 2.5 < high < 15


@pytest.mark.parametrize("values", [[0, 1, 2, 3], [-2, -1, 1, 2], [2, 3, 4, 5, 6, 7, 8], np.arange(256) / 255])
def test_entropy_of_few_distinct_values_keeps_them(values: list[float]) -> None:
    """Categories and pixels: a histogram with a few filled bins must not make one of them look perfect."""
    x = np.repeat(np.asarray(values, np.float32), 1000)
    low, high = observed(x).range("entropy", 256)
    assert high >= 0.9 * x.max()
    assert min(low, 0.0) <= 0.9 * min(float(x.min()), 0.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "x",
    [
        np.zeros(100),
        np.full(100, 3.25),
        np.full(100, -3.25),
        np.array([5.0]),
        np.array([1e-45, -1e-45]),
        np.array([3e38, -3e38, 1.0]),
        np.array([0.0, 3e38]),
        np.array([1e-40, 1e30]),
        np.array([-1.0, 0.0, 0.0]),
        np.repeat([0.0, 1.0], 1000),
        np.arange(2.0, 9.0),
    ],
    ids=lambda x: f"{x.min():g} to {x.max():g}",
)
def test_odd_values_give_usable_ranges(method: Method, x: np.ndarray) -> None:
    x = x.astype(np.float32)
    observer = observed(x)
    low, high = observer.range(method, 256)
    assert observer.low <= low <= high <= observer.high
    params = activation_qparams(low, high, U8)
    assert np.isfinite(params.scale)
    assert params.scale > 0
    if method in ("minmax", "mse"):
        assert low == x.min()
        assert high == x.max()
