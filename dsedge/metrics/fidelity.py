"""Against the float model: the metrics that need no labels."""

from __future__ import annotations

import numpy as np

from dsedge.bench.runner import difference
from dsedge.metrics.base import Arrays, Metric, class_scores, labels_unfit

MOST_DB = 200.0
"""SQNR of outputs without any difference, which the float model has against itself."""


def agreement(outputs: Arrays, reference: Arrays) -> np.ndarray:
    """Whether each row of the first output has the float model's class, 0 or 100: class scores [n, ..., C] or ids."""
    got, wanted = class_scores(outputs[0]), class_scores(reference[0])
    if wanted.dtype.kind == "f":
        if wanted.ndim < 2 or wanted.shape[-1] < 2:
            raise labels_unfit(f"agreement needs class scores or ids, the output is {list(wanted.shape)}")
        got, wanted = got.argmax(-1), wanted.argmax(-1)
    same: np.ndarray = got == wanted
    return np.where(same.reshape(-1), 100.0, 0.0)


def powers(outputs: Arrays, reference: Arrays) -> np.ndarray:
    """Sums of squares of the float model's outputs and of the difference: [outputs, 2], integers left out."""
    floats = [(a, b) for a, b in zip(reference, outputs, strict=True) if a.dtype.kind == "f"]
    if not floats:
        raise labels_unfit("sqnr needs an output of floats")
    return np.array([[np.sum(part**2) for part in difference(a, b)] for a, b in floats])


def sqnr(parts: list[np.ndarray]) -> float:
    """Signal-to-quantization-noise ratio of the worst output over all samples, in dB."""
    total: np.ndarray = np.sum(parts, axis=0)
    tiny = np.finfo(np.float64).tiny
    signal, noise_power = np.log10(np.maximum(total, tiny)).T
    ratios = 10 * (signal - noise_power)
    return float(np.clip(ratios, -MOST_DB, MOST_DB).min())


def noise(float_value: float, quantized_value: float) -> float:
    """The drop of an SQNR: the noise in percent of the signal's RMS, so that 40 dB are 1, 26 dB are 5, 20 dB are 10."""
    return 100.0 * float(10 ** (-quantized_value / 20) - 10 ** (-float_value / 20))


METRICS = (
    Metric("agreement", "points", agreement, against_float=True),
    Metric(
        "sqnr",
        "dB",
        powers,
        sqnr,
        noise,
        output=None,
        against_float=True,
        drop_unit="percent of noise",
        perfect=MOST_DB,
    ),
)
