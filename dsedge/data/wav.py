"""Reads sound: PCM in WAV files (RIFF), 8, 16, 24 or 32 bits, any number of channels up to eight."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from dsedge.errors import LoadError

MAX_SECONDS, MAX_SAMPLES = 600, 1 << 26
_RATES = (1000, 384_000)
_CHANNELS = 8


def read_wav(path: Path, rate: int) -> np.ndarray:
    """The sound of a file: float64 [samples] from -1 to 1 at `rate` Hz, the mean of its channels.

    Raises:
        LoadError: DS121 for what is no PCM, a file that ends early, one that is too long, or a rate or number of
            channels that no recording has.
    """
    try:
        with path.open("rb") as file, wave.open(file) as sound:
            channels, width, have = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
            count = sound.getnframes()
            if not _RATES[0] <= have <= _RATES[1] or channels > _CHANNELS or width > 4:
                raise ValueError(f"it declares {have} Hz, {channels} channels of {8 * width} bits")
            if count > MAX_SECONDS * have or count * channels > MAX_SAMPLES:
                limits = f"the limits are {MAX_SECONDS} seconds and {MAX_SAMPLES} samples"
                raise ValueError(f"it declares {count / have:.0f} seconds in {channels} channels, {limits}")
            content = sound.readframes(count)
        if len(content) != count * width * channels or not count:
            raise ValueError(f"it declares {count} samples and has {len(content) // (width * channels)}")
    except Exception as error:  # hostile bytes make the parser raise nearly any
        because = f"{error}" or type(error).__name__
        hint = "save it as PCM, 16 bits"
        raise LoadError("DS121", "the sound cannot be read", where=str(path), because=because, hint=hint) from error
    return resample(_decode(content, width).reshape(-1, channels).mean(axis=1), have, rate)


def resample(sound: np.ndarray, have: int, want: int) -> np.ndarray:
    """A sound at another rate, band-limited: its Fourier transform cut off or filled with zeros.

    Args:
        sound: float64 [samples].
        have: its rate in Hz.
        want: the rate of the result in Hz.
    """
    if have == want:
        return sound
    length = max(round(len(sound) * want / have), 1)
    spectrum = np.fft.rfft(sound)[: length // 2 + 1]
    return np.fft.irfft(spectrum, length) * (length / len(sound))


def _decode(content: bytes, width: int) -> np.ndarray:
    """Float64 from -1 to 1 of PCM samples of `width` bytes; 8 bits are unsigned, all others signed."""
    if width == 1:
        return np.frombuffer(content, np.uint8) / 128.0 - 1.0
    if width == 3:
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0] / 2.0**31
    return np.frombuffer(content, f"<i{width}") / 2.0 ** (8 * width - 1)
