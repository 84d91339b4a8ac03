"""Synthetic one-second sounds of twelve classes, and the speech features made of them.

The classes are shapes that a keyword spotter has to tell apart in time and frequency: tones, glides, steps, pulses,
vibrato, noise. Nothing here is recorded speech. Pitch, onset, length, loudness, harmonics and background noise vary, so
that no single frame gives the class away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
FRAMES, WINDOW, HOP, BINS, COEFFICIENTS = 49, 640, 320, 40, 10
"""Frames of 40 ms every 20 ms (Zhang et al. 2017), mel bins and cepstral coefficients."""
CLASSES = (
    "silence",
    "tone",
    "rising",
    "falling",
    "up_then_down",
    "down_then_up",
    "step_up",
    "step_down",
    "vibrato",
    "pulses",
    "hiss",
    "two_tones",
)

Floats = NDArray[np.float64]


def generate(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw sounds.

    Args:
        count: how many.
        seed: the same seed draws the same sounds.

    Returns:
        Log-mel energies, float32 [count, 49, 40], scaled to about -3..3 and rounded to 1/16, and labels, int64 [count],
        indices into `CLASSES`.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(CLASSES), size=count)
    filters = _mel_filters()
    energies = np.stack([_frames(_sound(rng, CLASSES[label])) @ filters for label in labels])
    # Finer than 1/16 carries no information, and round numbers compress.
    return (np.round((np.log(energies + 1e-3) / 2) * 16) / 16).astype(np.float32), labels


def cepstrum(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-mel energies [count, frames, 40] to mel-frequency cepstral coefficients, float32 [count, 1, frames, 10]."""
    bins = (np.arange(BINS) + 0.5) * np.pi / BINS
    cosines = np.cos(np.arange(COEFFICIENTS)[:, None] * bins) * np.sqrt(2 / BINS)
    cosines[0] *= np.sqrt(0.5)  # orthonormal
    return np.asarray(np.round((log_mel @ cosines.T.astype(np.float32))[:, None] * 16) / 16, np.float32)


def _sound(rng: np.random.Generator, kind: str) -> Floats:
    """One second of a class at 16 kHz, in background noise."""
    onset, length = rng.uniform(0.0, 0.35), rng.uniform(0.4, 0.65)
    time = np.arange(RATE) / RATE
    phase = np.clip((time - onset) / length, 0, 1)  # 0..1 through the sound
    loud = np.sin(np.pi * phase) ** 0.3 * rng.uniform(0.15, 1.0)
    span = rng.uniform(0.5, 1.3)  # octaves
    vibrato = np.sin(2 * np.pi * rng.uniform(5, 9) * time + rng.uniform(0, 6))
    octaves = {
        "rising": phase,
        "falling": 1 - phase,
        "up_then_down": 1 - np.abs(2 * phase - 1),
        "down_then_up": np.abs(2 * phase - 1),
        "step_up": phase > rng.uniform(0.35, 0.65),
        "step_down": phase < rng.uniform(0.35, 0.65),
        "vibrato": 0.5 + 0.3 * vibrato,
    }.get(kind, np.zeros(RATE))
    pitch = rng.uniform(200, 900) * 2 ** (span * octaves)
    sound = _harmonics(rng, pitch)
    if kind == "two_tones":
        sound = (sound + _harmonics(rng, pitch * 2 ** rng.uniform(0.4, 1.2))) / 2
    elif kind == "hiss":
        sound = np.diff(rng.normal(0, 0.5, RATE + 1))
    elif kind == "pulses":
        sound = sound * (np.sin(2 * np.pi * rng.uniform(5, 10) * time) > 0)
    elif kind == "silence":
        loud = np.zeros(RATE)
    noise = np.convolve(rng.normal(0, 1, RATE + 7), np.ones(8) / 8, "valid")  # darker than white
    return np.asarray(sound * loud + noise * np.exp(rng.uniform(-4.5, -1.2)))


def _harmonics(rng: np.random.Generator, pitch: Floats) -> Floats:
    """A voice-like sound of four harmonics from a pitch in Hz at each sample."""
    angle = np.cumsum(pitch) * (2 * np.pi / RATE) + rng.uniform(0, 6)
    weights = rng.uniform(0.2, 1, 4) / np.arange(1, 5)
    return np.asarray(sum(w * np.sin(k * angle) for k, w in enumerate(weights, 1)) / weights.sum())


def _frames(sound: Floats) -> Floats:
    """Power spectra, [FRAMES, WINDOW / 2 + 1]."""
    starts = np.arange(FRAMES) * HOP
    windows = sound[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    return np.asarray(np.abs(np.fft.rfft(windows)) ** 2)


def _mel_filters() -> Floats:
    """Triangular filters of equal width in mel from 40 Hz to 7600 Hz, [WINDOW / 2 + 1, BINS]."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (40, 7600))
    edges = 700 * (10 ** (np.linspace(low, high, BINS + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(WINDOW, 1 / RATE)[:, None]
    rise = (hz - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - hz) / np.diff(edges)[1:]
    triangles = np.maximum(0, np.minimum(rise, fall))
    return np.asarray(triangles / np.maximum(triangles.sum(0), 1e-9))
