"""Sound: what a WAV file holds, resampling, and log-mel features against torch's Fourier transform."""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_data_noise import FLOAT, unused

from dsedge.data import SpeechRecipe, load_recipe, open_data
from dsedge.data.mel import log_mel, mel_filters
from dsedge.data.wav import read_wav, resample
from dsedge.errors import LoadError
from dsedge.model import Model

RATE = 16000
RECIPE = Path(__file__).parents[1] / "calibration" / "speech.toml"


def speech(**fields: Any) -> SpeechRecipe:
    found = load_recipe("speech")
    assert isinstance(found, SpeechRecipe)
    return SpeechRecipe.model_validate(found.model_dump() | fields)


def tone(seconds: float = 0.5, hertz: float = 440.0, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(path: Path, sound: np.ndarray, width: int = 2, rate: int = RATE) -> Path:
    """float64 [samples] or [samples, channels] as PCM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.round(sound * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    if width == 1:
        content = (steps + 128).astype(np.uint8).tobytes()
    else:
        content = steps.astype("<i8").reshape(-1, 1).view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)
    return path


@pytest.mark.parametrize(("width", "step"), [(1, 2**-6), (2, 2**-14), (3, 2**-22), (4, 2**-30)])
def test_pcm_of_every_width(tmp_path: Path, width: int, step: float) -> None:
    sound = tone()
    got = read_wav(write(tmp_path / "a.wav", sound, width), RATE)
    np.testing.assert_allclose(got, sound, atol=step)
    stereo = write(tmp_path / "b.wav", np.stack([sound, np.zeros_like(sound)], axis=1), width)
    np.testing.assert_allclose(read_wav(stereo, RATE), sound / 2, atol=step)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_a_tone_stays_what_it_is_at_another_rate(rate: int) -> None:
    got = resample(tone(rate=rate), rate, RATE)
    assert len(got) == RATE // 2
    np.testing.assert_allclose(got, tone(), atol=1e-9)
    high = tone(hertz=9000, rate=44100)
    assert np.abs(resample(high, 44100, RATE)).max() < 1e-9, "what the rate cannot hold is gone, not folded"


def slow_filters(recipe: SpeechRecipe) -> np.ndarray:
    """The triangles, value by value."""

    def to_mel(f: float) -> float:
        if recipe.mel == "htk":
            return 1127.0 * np.log1p(f / 700)
        return 3 * f / 200 if f < 1000 else 15 + 27 * np.log(f / 1000) / np.log(6.4)

    def to_hz(m: float) -> float:
        low, high = 0.0, 1e6
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if to_mel(middle) < m else (low, middle)
        return low

    corners = [to_hz(m) for m in np.linspace(to_mel(recipe.fmin), to_mel(recipe.fmax), recipe.n_mels + 2)]
    filters = np.zeros((recipe.n_mels, recipe.n_fft // 2 + 1))
    for m, k in np.ndindex(*filters.shape):
        left, middle, right = corners[m : m + 3]
        f = k * recipe.sample_rate / recipe.n_fft
        if left < f < right:
            filters[m, k] = (f - left) / (middle - left) if f < middle else (right - f) / (right - middle)
            filters[m, k] *= 2 / (right - left) if recipe.norm == "slaney" else 1
    return filters


VARIANTS: list[dict[str, Any]] = [
    {},
    {"center": False, "power": 1, "log": "log10"},
    {"mel": "slaney", "norm": "slaney", "n_mels": 80, "fmin": 0.0},
    {"window": 300, "hop": 100, "mean": -3.0, "std": 2.5},
]


@pytest.mark.parametrize("fields", VARIANTS)
def test_log_mel_is_what_the_formula_says(fields: dict[str, Any]) -> None:
    recipe = speech(**fields)
    np.testing.assert_allclose(mel_filters(recipe), slow_filters(recipe), atol=1e-6)
    sound = tone(0.3, 700) + np.random.default_rng(0).standard_normal(4800) * 0.1
    spectrum = torch.stft(
        torch.from_numpy(sound),
        recipe.n_fft,
        recipe.hop,
        recipe.window,
        torch.hann_window(recipe.window, dtype=torch.float64),
        center=recipe.center,
        pad_mode="constant",
        return_complex=True,
    )
    energy = slow_filters(recipe) @ (spectrum.abs().numpy() ** recipe.power)
    log = np.log if recipe.log == "ln" else np.log10
    expected = (log(np.maximum(energy, recipe.floor)).T - recipe.mean) / recipe.std
    np.testing.assert_allclose(log_mel(sound, recipe), expected, atol=1e-4)


def folder_of_sounds(folder: Path) -> Path:
    for name, seconds in (("yes/a.wav", 0.2), ("yes/b.WAV", 1.0), ("no/c.wav", 0.5)):
        write(folder / name, tone(seconds))
    return folder


@pytest.mark.parametrize(
    ("layout", "shape"),
    [("NTF", ["n", 40, 40]), ("NFT", ["n", 40, 30]), ("N1TF", ["n", 1, 50, 40]), ("N1FT", ["n", 1, 40, 50])],
)
def test_sounds_become_inputs_of_the_length_that_the_model_fixes(tmp_path: Path, layout: str, shape: list[Any]) -> None:
    folder = folder_of_sounds(tmp_path / "sounds")
    steps = tmp_path / "r.toml"
    steps.write_text(RECIPE.read_text().replace('"NTF"', f'"{layout}"'))
    data = open_data(folder, unused(x=(FLOAT, shape)), recipe=steps, labelled=True)
    (batch,) = data.batches(8)
    assert batch.feeds["x"].shape == (3, *shape[1:]) and batch.feeds["x"].dtype == np.float32
    assert batch.labels is not None and batch.labels.tolist() == [0, 1, 1], "no/c, yes/a, yes/b"
    features = batch.feeds["x"].reshape(3, *shape[-2:])
    features = features.transpose(0, 2, 1) if layout.endswith("FT") else features
    np.testing.assert_allclose(
        features[2], log_mel(read_wav(folder / "yes/b.WAV", RATE), speech())[: features.shape[1]]
    )
    silence = features[1, 23:]
    np.testing.assert_allclose(silence, np.log(1e-6), rtol=1e-6, err_msg="0.2 s are 20 frames, the rest is silence")


def test_lengths_that_the_model_leaves_open(tmp_path: Path) -> None:
    folder = folder_of_sounds(tmp_path / "sounds")
    data = open_data(folder, unused(x=(FLOAT, ["n", "t", 40])), recipe="speech")
    assert [batch.feeds["x"].shape for batch in data.batches(8)] == [(1, 51, 40), (1, 21, 40), (1, 101, 40)]
    assert data.sha256()


def refused(folder: Path, model: Model, code: str, *words: str) -> None:
    with pytest.raises(LoadError) as caught:
        list(open_data(folder, model, recipe="speech").batches())
    assert caught.value.code == code and all(word in str(caught.value) for word in words), str(caught.value)


def test_models_that_do_not_fit(tmp_path: Path) -> None:
    folder = folder_of_sounds(tmp_path)
    refused(folder, unused(x=(FLOAT, ["n", "t", 64])), "DS122", "40 mel bands", "[n, t, 64]")
    refused(folder, unused(x=(FLOAT, ["n", 1, "t", 40])), "DS122", "NTF", "layout")
    refused(folder, unused(x=(FLOAT, ["n", 1 << 20, 40])), "DS122", "too many")
    refused(folder, unused(x=(FLOAT, [1, 2, 40]), y=(FLOAT, [1])), "DS122", "one input")


def header(*, size: int = 64, rate: int = RATE, channels: int = 1, bits: int = 16, kind: int = 1) -> bytes:
    """A WAV file that holds 64 bytes and declares what it is told to."""
    block = channels * bits // 8 & 0xFFFF
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + bytes(64)
    return b"RIFF" + struct.pack("<I", len(body)) + body


HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", ""),
    "text": (b"no sound at all, but long enough for a header", ""),
    "cut": (header()[:30], ""),
    "no samples": (header(size=0), "declares 0"),
    "longer than the file": (header(size=4000), "declares 2000 samples and has"),
    "hours": (header(size=2**31), "seconds"),
    "a slow clock": (header(rate=1), "1 Hz"),
    "a fast clock": (header(rate=4_000_000_000), "4000000000 Hz"),
    "hours of eight channels": (header(size=600 * RATE * 16, channels=8, rate=384_000), "samples"),
    "many channels": (header(channels=65535), "channels"),
    "no channels": (header(channels=0), ""),
    "no bits": (header(bits=0), ""),
    "64 bits": (header(bits=64), "64 bits"),
    "floats": (header(kind=3, bits=32), "unknown format"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    content, words = HOSTILE[name]
    (tmp_path / "bad.wav").write_bytes(content)
    refused(tmp_path, unused(x=(FLOAT, ["n", "t", 40])), "DS121", "bad.wav", words)


def test_recipes_that_contradict_themselves(tmp_path: Path) -> None:
    text = RECIPE.read_text()
    for old, new, word in (
        ("window = 400", "window = 513", "longer than n_fft"),
        ("fmax = 8000.0", "fmax = 8001.0", "half of the sample rate"),
        ("fmax = 8000.0", "fmax = 10.0", "not above fmin"),
        ("floor = 1e-6", "floor = 0.0", "greater than 0"),
        ('"NTF"', '"TNF"', "layout"),
        ("hop = 160", "hops = 160", "did you mean 'hop'"),
    ):
        assert old in text
        (tmp_path / "r.toml").write_text(text.replace(old, new))
        with pytest.raises(LoadError, match=word) as caught:
            load_recipe(tmp_path / "r.toml")
        assert caught.value.code == "DS127"
