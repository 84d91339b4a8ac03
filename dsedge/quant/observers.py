"""Observers: fixed-size statistics of activations, and the ranges chosen from them.

One `Observer` a value holds the least and greatest value and, for methods that need one, a histogram. The histogram's
bins are aligned to multiples of a power-of-two width that doubles, merging neighbours, whenever a value falls outside.
So memory is fixed, one pass is enough, and the result does not depend on the order of the samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "entropy", "mse")

BINS = 8192
"""Bins of a histogram, half of them for negative values."""

PERCENTILE = 99.99
"""Share of values that stay inside of the range under "percentile", in percent."""

LEAST_GAIN = 1.25
"""How many times smaller the squared error must be for values to be clipped."""

BINNED = 1 << 16
"""Values of a sample that go into the histogram, at most; of a larger one every k-th does, and counts k-fold."""


class Observer:
    """Statistics of one value, updated sample by sample.

    Attributes:
        low, high: the least and greatest value seen; inf, -inf before the first.
        counts: int64 [BINS]; bin i counts values in [(i - BINS/2) * width, (i - BINS/2 + 1) * width). None without a
            histogram.
        width: of a bin, a power of two.
        zeros: how many values were exactly zero; quantizing those costs nothing.
        channel_sums: float64 [channels], sums along all axes but the second; None for vectors and scalars.
        channel_count: how many values were added up for each channel.
    """

    def __init__(self, *, histogram: bool) -> None:
        self.low, self.high = np.inf, -np.inf
        self.counts: npt.NDArray[np.int64] | None = np.zeros(BINS, np.int64) if histogram else None
        self.width = 0.0
        self.zeros = 0
        self.channel_sums: npt.NDArray[np.float64] | None = None
        self.channel_count = 0

    @property
    def channel_means(self) -> npt.NDArray[np.float64] | None:
        """The mean of each channel (axis 1), [channels]; None when the value has no fixed second axis."""
        return None if self.channel_sums is None else self.channel_sums / self.channel_count

    def update(self, x: npt.NDArray[np.floating[Any]]) -> None:
        """Take in a sample of any shape.

        Raises:
            ValueError: it holds NaN or Inf.
        """
        if x.size == 0:
            return
        low, high = float(x.min()), float(x.max())
        if not np.isfinite(low + high):
            raise ValueError("the sample holds NaN or Inf")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if x.ndim > 1:
            sums = x.sum(axis=(0, *range(2, x.ndim)), dtype=np.float32).astype(np.float64)
            if self.channel_count == 0:
                self.channel_sums = sums
            elif self.channel_sums is not None:
                same = self.channel_sums.shape == sums.shape
                self.channel_sums = self.channel_sums + sums if same else None
            self.channel_count += x.size // x.shape[1]
        if self.counts is None:
            return
        self._widen(max(-low, high))
        stride = -(-x.size // BINNED)
        while math.gcd(stride, x.size) > 1:  # a stride that divides an axis would see some of its channels only
            stride += 1
        picked = x.reshape(-1)[::stride]
        index = np.multiply(picked, np.float32(1 / self.width), dtype=np.float32)
        np.floor(index, out=index)
        index += np.float32(BINS // 2)
        self.counts += stride * np.bincount(index.astype(np.int32), minlength=BINS)
        self.zeros += stride * (picked.size - int(np.count_nonzero(picked)))

    def merge(self, other: Observer) -> None:
        """Take in all that another observer has seen."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        if self.counts is None or other.counts is None or other.width == 0.0:
            return
        self._widen(max(-self.low, self.high))
        counts, width = other.counts, other.width
        while width < self.width:
            counts, width = _halve(counts), width * 2
        self.counts += counts
        self.zeros += other.zeros

    @staticmethod
    def pack(observers: Mapping[str, Observer]) -> dict[str, npt.NDArray[Any]]:
        """Observers as arrays, for the cache; `unpack` is the inverse."""
        arrays: dict[str, npt.NDArray[Any]] = {"names": np.array(list(observers), np.str_)}
        for i, o in enumerate(observers.values()):
            arrays[f"{i}"] = np.array([o.low, o.high, o.width, o.zeros, o.channel_count], np.float64)
            if o.counts is not None:
                arrays[f"{i}_counts"] = o.counts
            if o.channel_sums is not None:
                arrays[f"{i}_sums"] = o.channel_sums
        return arrays

    @staticmethod
    def unpack(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Observer]:
        """The observers that `pack` made arrays of."""
        observers: dict[str, Observer] = {}
        for i, name in enumerate(arrays["names"]):
            o = observers[str(name)] = Observer(histogram=False)
            o.low, o.high, o.width = (float(x) for x in arrays[f"{i}"][:3])
            o.zeros, o.channel_count = (int(x) for x in arrays[f"{i}"][3:])
            o.counts, o.channel_sums = arrays.get(f"{i}_counts"), arrays.get(f"{i}_sums")
        return observers

    def _widen(self, bound: float) -> None:
        assert self.counts is not None
        needed = 2.0 ** np.ceil(np.log2(max(bound, 1e-30) / (BINS // 2 - 1)))
        if self.width == 0.0:
            self.width = needed
        while self.width < needed:
            self.counts, self.width = _halve(self.counts), self.width * 2

    def range(self, method: Method, levels: int) -> tuple[float, float]:
        """The range that a method chooses.

        Args:
            method: "minmax", or one of the others if there is a histogram.
            levels: how many integers the quantizer has, 255 or 256 for INT8.

        Returns:
            (low, high), inside of what was seen; (0, 0) when nothing was seen.
        """
        if self.low > self.high:
            return 0.0, 0.0
        if method == "minmax" or self.counts is None or self.low == self.high:
            return self.low, self.high
        low, high = _METHODS[method](self, levels)
        return max(low, self.low), min(high, self.high)


def _halve(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The counts on bins of twice the width: the outer quarters become empty."""
    merged = counts.reshape(-1, 2).sum(axis=1)
    return np.pad(merged, BINS // 4)


def _edges(observer: Observer) -> npt.NDArray[np.float64]:
    return np.asarray((np.arange(BINS + 1) - BINS // 2) * observer.width, np.float64)


def percentile_range(observer: Observer, levels: int) -> tuple[float, float]:
    """The range that leaves out (100 - PERCENTILE)/2 percent of the values at each end."""
    assert observer.counts is not None
    share = np.cumsum(observer.counts) / observer.counts.sum()
    tail = (1 - PERCENTILE / 100) / 2
    edges = _edges(observer)
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail, side="left"))
    return float(edges[first]), float(edges[last + 1])


def mse_range(observer: Observer, levels: int) -> tuple[float, float]:
    """The range with the least mean squared error of quantization.

    The error is that of rounding, step^2/12 for every value inside that is not exactly zero, and that of clipping,
    summed over the histogram. Both ends are searched over 128 shrinking candidates each, all pairs at once. The
    rounding model is that of Widrow, "Statistical Analysis of Amplitude-Quantized Sampled-Data Systems" (1961).
    A range that gains little over the whole one is not taken, because other samples may reach farther than these.
    """
    assert observer.counts is not None
    counts, centers = observer.counts.astype(np.float64), _edges(observer)[:-1] + observer.width / 2
    shrink = np.linspace(0.2, 1.0, 128)
    lows = shrink * min(observer.low, 0.0) if observer.low < 0 else np.zeros(1)
    highs = shrink * max(observer.high, 0.0) if observer.high > 0 else np.zeros(1)
    clipped_low = _clip_errors(counts[::-1], -centers[::-1], -lows)
    clipped_high = _clip_errors(counts, centers, highs)
    step = (highs[None, :] - lows[:, None]) / (levels - 1)
    rounding = step**2 / 12 * (counts.sum() - observer.zeros)
    error = rounding + clipped_low[:, None] + clipped_high[None, :]
    i, j = np.unravel_index(np.argmin(error), error.shape)
    if error[i, j] * LEAST_GAIN > error[-1, -1]:
        return float(lows[-1]), float(highs[-1])
    return float(lows[i]), float(highs[j])


def _clip_errors(
    counts: npt.NDArray[np.float64], centers: npt.NDArray[np.float64], bounds: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """For each bound the squared error of all that exceeds it, from the moments of the tail; `centers` ascend."""
    moments = [np.append(np.cumsum((counts * centers**k)[::-1])[::-1], 0.0) for k in range(3)]
    number, total, squares = (moment[np.searchsorted(centers, bounds, side="right")] for moment in moments)
    return np.asarray(np.maximum(squares - 2 * bounds * total + bounds**2 * number, 0.0), np.float64)


def entropy_range(observer: Observer, levels: int) -> tuple[float, float]:
    """The range whose quantized histogram has the least Kullback-Leibler divergence from the histogram itself.

    Migacz, "8-bit Inference with TensorRT" (GTC 2017), on the histogram of magnitudes: each candidate threshold folds
    the outliers into the last bin, is quantized to levels/2 steps, and compared. The threshold bounds both ends.
    """
    assert observer.counts is not None
    half = BINS // 2
    magnitudes = (observer.counts[half:] + observer.counts[:half][::-1]).astype(np.float64)
    magnitudes[0] -= min(observer.zeros, magnitudes[0])  # exact zeros are represented exactly: they carry no error
    used = int(np.max(np.flatnonzero(magnitudes), initial=0)) + 1
    steps = levels // 2
    if used <= steps:
        return observer.low, observer.high
    best, threshold = np.inf, used
    for size in np.unique(np.linspace(steps, used, 256).astype(int)):
        divergence = _divergence(magnitudes[:size], magnitudes[size:].sum(), steps)
        if divergence <= best:
            best, threshold = divergence, size
    bound = threshold * observer.width
    return -bound, bound


def _divergence(inside: npt.NDArray[np.float64], outliers: float, steps: int) -> float:
    reference = inside.copy()
    reference[-1] += outliers
    owner = np.arange(inside.size) * steps // inside.size
    total = np.bincount(owner, inside, minlength=steps)
    filled = np.bincount(owner, inside > 0, minlength=steps)
    spread = np.divide(total, filled, out=np.zeros(steps), where=filled > 0)
    quantized = np.where(inside > 0, spread[owner], 0.0)
    p, q = reference / max(reference.sum(), 1.0), quantized / max(quantized.sum(), 1.0)
    mask = p > 0
    return float(np.sum(p[mask] * np.log(p[mask] / np.maximum(q[mask], 1e-12))))


_METHODS = {"percentile": percentile_range, "mse": mse_range, "entropy": entropy_range}
