"""Numbers, images and sound: the first output against a target of the same size."""

from __future__ import annotations

import numpy as np

from dsedge.metrics.base import Arrays, Metric, labels_unfit, rise

_MOST_DB = 120.0
"""A signal without any error counts as this."""


def absolute_error(outputs: Arrays, labels: np.ndarray) -> np.ndarray:
    """Mean absolute error of each sample, in the unit of the output."""
    got, wanted = _pairs("mae", outputs, labels)
    error: np.ndarray = np.abs(got - wanted).mean(axis=1)
    return error


def psnr(outputs: Arrays, labels: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each image, in dB; the peak is 255 for labels of uint8 and 1 for floats."""
    if labels.dtype != np.uint8 and (labels.dtype.kind != "f" or labels.min() < 0 or labels.max() > 1):
        raise labels_unfit("psnr needs images as labels: uint8, or floats from 0 to 1")
    got, wanted = _pairs("psnr", outputs, labels)
    peak = 255.0 if labels.dtype == np.uint8 else 1.0
    return _db(np.full(len(got), peak**2), ((got - wanted) ** 2).mean(axis=1))


def si_sdr(outputs: Arrays, labels: np.ndarray) -> np.ndarray:
    """Scale-invariant signal-to-distortion ratio of each sound along the last axis, in dB (Le Roux et al. 2019).

    The target is scaled to the output by least squares; nothing is done about the mean. A silent target is refused.
    """
    got, wanted = (x.reshape(-1, labels.shape[-1]) for x in _pairs("si-sdr", outputs, labels))
    energy = (wanted**2).sum(axis=1, keepdims=True)
    if not energy.all():
        raise labels_unfit("si-sdr needs targets that are not silent")
    scaled = wanted * ((got * wanted).sum(axis=1, keepdims=True) / energy)
    return _db((scaled**2).sum(axis=1), ((got - scaled) ** 2).sum(axis=1))


def _db(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    tiny = np.finfo(np.float64).tiny
    ratio: np.ndarray = 10 * (np.log10(np.maximum(signal, tiny)) - np.log10(np.maximum(noise, tiny)))
    bounded: np.ndarray = np.clip(ratio, -_MOST_DB, _MOST_DB)
    return bounded


def _pairs(name: str, outputs: Arrays, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Output and labels as float64 [n, numbers of a sample]."""
    got = outputs[0]
    if got.size != labels.size or labels.dtype.kind not in "fiub":
        raise labels_unfit(f"{name} needs a number for each of {got.size} outputs, there are {labels.size} labels")
    return got.reshape(len(got), -1).astype(np.float64), labels.reshape(len(got), -1).astype(np.float64)


METRICS = (
    Metric("mae", "output units", absolute_error, drop=rise),
    Metric("psnr", "dB", psnr, perfect=_MOST_DB),
    Metric("si-sdr", "dB", si_sdr, perfect=_MOST_DB),
)
