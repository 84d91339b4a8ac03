r"""Log-mel features of sound.

Frame i covers the `n_fft` samples from i * hop on (with `center` they are centred on sample i * hop, and there are
zeros around the sound). They are multiplied by a periodic Hann window of `window` samples in the middle of the frame:

    feature[i, m] = (log(max(floor, sum_k filter[m, k] |rfft(frame_i)[k]| ^ power)) - mean) / std

`filter` has a triangle for each band, in Hz, whose corners lie at equal distances on the mel scale from fmin to fmax:
band m rises from corner m to m + 1 and falls to m + 2. The scale is one of

    htk:     mel(f) = 2595 log10(1 + f / 700)                                       (HTK Book, section 5.4)
    slaney:  mel(f) = 3 f / 200 below 1 kHz, 15 + 27 log_6.4(f / 1000) above it     (Auditory Toolbox, Slaney 1998)

With `norm = "slaney"` a triangle is multiplied by 2 / (its width in Hz).
"""

from __future__ import annotations

import numpy as np

from dsedge.data.recipe import SpeechRecipe

_KNEE, _SLOPE = 1000.0, 3 / 200
_STEP = np.log(6.4) / 27


def frame_count(recipe: SpeechRecipe, samples: int) -> int:
    """Frames that a sound of so many samples makes, at least one."""
    return 1 + max(samples - (0 if recipe.center else recipe.n_fft), 0) // recipe.hop


def log_mel(sound: np.ndarray, recipe: SpeechRecipe, frames: int | None = None) -> np.ndarray:
    """The features of a sound.

    Args:
        sound: float64 [samples] at the recipe's rate.
        recipe: all settings.
        frames: how many there shall be: further sound is left out, silence fills up what is missing. By default as many
            as the sound makes.

    Returns:
        float32 [frames, n_mels].
    """
    frames = frame_count(recipe, len(sound)) if frames is None else frames
    before, length = recipe.n_fft // 2 if recipe.center else 0, (frames - 1) * recipe.hop + recipe.n_fft
    padded = np.pad(sound, (before, length))[:length]
    cut = np.lib.stride_tricks.sliding_window_view(padded, recipe.n_fft)[:: recipe.hop]
    spectrum = np.abs(np.fft.rfft(cut * _window(recipe), axis=1)) ** recipe.power
    energy = np.maximum(spectrum @ mel_filters(recipe).T, recipe.floor)
    feature = np.log(energy) if recipe.log == "ln" else np.log10(energy)
    normalized: np.ndarray = (feature - recipe.mean) / recipe.std
    return normalized.astype(np.float32)


def mel_filters(recipe: SpeechRecipe) -> np.ndarray:
    """The triangles, float64 [n_mels, n_fft // 2 + 1]."""
    to_mel, to_hz = (_htk, _from_htk) if recipe.mel == "htk" else (_slaney, _from_slaney)
    low, high = to_mel(np.array([recipe.fmin, recipe.fmax]))
    corners = to_hz(np.linspace(low, high, recipe.n_mels + 2))
    bins = np.arange(recipe.n_fft // 2 + 1) * recipe.sample_rate / recipe.n_fft
    left, middle, right = (corners[i : recipe.n_mels + i, None] for i in range(3))
    triangles = np.maximum(np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)), 0)
    filters: np.ndarray = triangles * 2 / (right - left) if recipe.norm == "slaney" else triangles
    return filters


def _window(recipe: SpeechRecipe) -> np.ndarray:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(recipe.window) / recipe.window)
    left = (recipe.n_fft - recipe.window) // 2
    return np.pad(hann, (left, recipe.n_fft - recipe.window - left))


def _htk(hertz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hertz / 700)


def _from_htk(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


def _slaney(hertz: np.ndarray) -> np.ndarray:
    above = _KNEE * _SLOPE + np.log(np.maximum(hertz, _KNEE) / _KNEE) / _STEP
    return np.where(hertz < _KNEE, hertz * _SLOPE, above)


def _from_slaney(mel: np.ndarray) -> np.ndarray:
    knee = _KNEE * _SLOPE
    return np.where(mel < knee, mel / _SLOPE, _KNEE * np.exp(_STEP * (np.maximum(mel, knee) - knee)))
