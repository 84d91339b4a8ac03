"""A folder of WAV files as log-mel features. Streams: one sound is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.data.batches import Source
from dsedge.data.files import class_indices, digest, list_files
from dsedge.data.fit import sample_dims
from dsedge.data.mel import frame_count, log_mel
from dsedge.data.recipe import SpeechRecipe
from dsedge.data.wav import read_wav
from dsedge.errors import LoadError
from dsedge.model import TensorSpec

_MOST_NUMBERS = 1 << 26  # of the frames of one sound


def sound_folder(folder: Path, inputs: Sequence[TensorSpec], recipe: SpeechRecipe, labelled: bool) -> Source:
    """The sounds of a folder; labels are subfolders, one a class.

    Sounds are cut, or filled with silence at the end, to the frames that the model fixes, else to the recipe's.

    Raises:
        LoadError: DS121 for a file that is no sound, DS122 for a model whose input is not what the recipe says, DS124
            labels.
    """
    where = str(folder)
    if len(inputs) != 1:
        raise LoadError("DS122", f"sounds are for a model with one input, this one has {len(inputs)}", where=where)
    spec, axes = inputs[0], recipe.layout.removeprefix("N")
    dims = sample_dims(spec)
    if dims is None or len(dims) != len(axes):
        what = f"the recipe makes {recipe.layout}, the model takes {spec}"
        raise LoadError("DS122", what, where=where, hint="set the layout of the recipe to that of the model's training")
    fixed = dict(zip(axes, dims, strict=True))
    if isinstance(fixed["F"], int) and fixed["F"] != recipe.n_mels:
        what = f"the recipe makes {recipe.n_mels} mel bands ({recipe.layout}), the model takes {spec}"
        raise LoadError("DS122", what, where=where, hint="take n_mels, layout and the rest from the model's training")
    length = fixed["T"] if isinstance(fixed["T"], int) else recipe.frames
    files = list_files(folder, {".wav"})
    labels: Sequence[Any] = class_indices(folder, files) if labelled else [None] * len(files)

    def read() -> Iterator[tuple[dict[str, np.ndarray], Any]]:
        for path, label in zip(files, labels, strict=True):
            features = _features(path, recipe, length)
            features = features.T if axes.index("F") < axes.index("T") else features
            yield {spec.name: features[None] if axes[0] == "1" else features}, label

    return Source(where, read, len(files), lambda: digest(folder, files, recipe))


def _features(path: Path, recipe: SpeechRecipe, frames: int | None) -> np.ndarray:
    sound = read_wav(path, recipe.sample_rate)
    count = frames if frames is not None else frame_count(recipe, len(sound))
    if count * recipe.n_fft > _MOST_NUMBERS:
        raise LoadError("DS122", f"{count} frames of {recipe.n_fft} samples are too many", where=str(path))
    return log_mel(sound, recipe, count)
