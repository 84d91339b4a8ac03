"""Opens calibration and evaluation data: a file, a folder of images, the word "random", or any Python iterable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.data.arrays import array_names, read_npy, read_npz
from dsedge.data.batches import Data, Source
from dsedge.data.files import digest, digest_file, list_files
from dsedge.data.fit import to_numpy
from dsedge.data.images import image_folder
from dsedge.data.noise import random_source
from dsedge.data.recipe import (
    ImageRecipe,
    LetterboxRecipe,
    Recipe,
    SpeechRecipe,
    TableRecipe,
    TokenRecipe,
    load_recipe,
)
from dsedge.data.speech import sound_folder
from dsedge.data.tables import table_file
from dsedge.data.tokens import token_file
from dsedge.errors import LoadError
from dsedge.model import Model, TensorSpec

LABELS = "labels"
_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".joblib"}
_TEXT = {".csv", ".jsonl", ".txt"}
_KINDS = (
    "give an .npz or .npy file, a folder of .npz files, with a recipe a folder of images or sounds, a .csv of numbers "
    'or a .jsonl of token ids, the word "random", or a Python iterable'
)

Raw = Iterator[tuple[Mapping[str, Any], Any]]


def open_data(
    source: str | Path | Iterable[Any], model: Model, *, recipe: str | Path | None = None, labelled: bool = False
) -> Data:
    """Opens samples for a model and checks the first one.

    Args:
        source: one of
            an .npz file, or a mapping: arrays by input name, the first axis counts samples; for one input a single
            array may have any name. `labels` are taken from it when `labelled`.
            an .npy file, for a model with one input.
            a folder of .npz files, each one element: arrays by input name, with `labels` when `labelled`.
            a folder of images, with a recipe of the kind image or letterbox. With labels: a subfolder a class, in
            sorted order; for a letterbox the boxes of `dsedge.data.boxes`.
            a folder of .wav files, with a recipe of the kind speech. With labels: a subfolder a class.
            a .jsonl or .txt file of token ids, with a recipe of the kind tokens (`dsedge.data.tokens`).
            a .csv file of numbers, with a recipe of the kind table (`dsedge.data.tables`).
            "random": 32 seeded samples (`dsedge.data.noise`). Says nothing about real data.
            an iterable of arrays, of dicts by input name, or of tuples of inputs. When `labelled` a dict has `labels`
            and a tuple ends with the label. It may be one that can be read only once.
        model: whose inputs the samples must fit, but for the states of a streaming model; `dsedge.data.fit` has the
            rule for shapes and dtypes.
        recipe: name or path. Arrays are taken as they are, whatever it says.
        labelled: whether each sample needs a label.

    Raises:
        LoadError: DS103 refused or unknown kind, DS121 unreadable, DS122 does not fit the inputs, DS123 empty, DS124
            labels, DS127 recipe, DS128 NaN or Inf.
        BuildError: DS402 when images are to be read without Pillow.
    """
    inputs = [spec for spec in model.inputs if spec.name not in model.states]
    return Data(_open(source, model, inputs, recipe, labelled), inputs, labelled=labelled)


def _open(
    source: str | Path | Iterable[Any],
    model: Model,
    inputs: Sequence[TensorSpec],
    recipe: str | Path | None,
    labelled: bool,
) -> Source:
    names = [spec.name for spec in inputs]
    if isinstance(source, Mapping):
        return _mapping("arrays in memory", source, names, labelled)
    if not isinstance(source, str | Path):
        return _iterable(source, names, labelled)
    if source == "random":
        if labelled:
            raise LoadError("DS124", "random data has no labels", where="random")
        return random_source(model, inputs)
    path = Path(source)
    if path.suffix.lower() in _PICKLES:
        because = "reading a pickle runs code that is in it"
        raise LoadError("DS103", "pickles are refused", where=str(path), because=because, hint=_KINDS)
    steps = load_recipe(recipe) if recipe is not None else None
    if path.is_dir():
        return _folder(path, inputs, steps, labelled)
    if not path.is_file():
        raise LoadError("DS121", "there is no such file or folder", where=str(path))
    if path.suffix.lower() in _TEXT:
        return _text(path, inputs, steps, labelled)
    if path.suffix.lower() == ".npz":
        return _mapping(str(path), _read_npz(path, names, labelled), names, labelled, path)
    if path.suffix.lower() == ".npy":
        return _mapping(str(path), {names[0] if len(names) == 1 else path.stem: read_npy(path)}, names, labelled, path)
    raise LoadError("DS103", f"data of the kind {path.suffix!r} is not read", where=str(path), hint=_KINDS)


def _match(found: Iterable[Any], names: Sequence[str], where: str) -> dict[str, Any]:
    """Which of the found names holds each input."""
    found = list(found)
    others = [name for name in found if name != LABELS]
    if all(name in found for name in names):
        return {name: name for name in names}
    if len(names) == 1 and len(others) == 1:
        return {names[0]: others[0]}
    what = f"the model's inputs are {', '.join(names)}; found: {', '.join(map(str, found)) or 'nothing'}"
    raise LoadError("DS122", what, where=where)


def _mapping(
    name: str, arrays: Mapping[str, Any], names: Sequence[str], labelled: bool, path: Path | None = None
) -> Source:
    """Arrays by name, whose first axis counts samples."""
    keys = _match(arrays, names, name)
    columns = {input_name: to_numpy(arrays[key], f"{name}, {key!r}") for input_name, key in keys.items()}
    other = [
        f"{Path(name).name}: its array {key!r} is taken for the input {i!r}" for i, key in keys.items() if key != i
    ]
    if flat := [column for column in columns if columns[column].ndim == 0]:
        raise LoadError("DS122", "the array is 0-d, its first axis should count samples", where=f"{name}, {flat[0]!r}")
    lengths = {column: len(array) for column, array in columns.items()}
    count = min(lengths.values())
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{column} {length}" for column, length in lengths.items())
        raise LoadError("DS122", f"the inputs have different numbers of samples: {listed}", where=name)
    labels = None
    if labelled:
        if LABELS not in arrays:
            hint = f"save them in an .npz file beside the inputs, as {LABELS!r}"
            raise LoadError("DS124", "there are no labels", where=name, hint=hint)
        labels = to_numpy(arrays[LABELS], f"{name}, {LABELS!r}")
        if labels.ndim == 0 or len(labels) != count:
            raise LoadError("DS124", f"{labels.size} labels for {count} samples", where=name)

    def read() -> Raw:
        for i in range(count):
            yield {column: array[i] for column, array in columns.items()}, None if labels is None else labels[i]

    return Source(name, read, count, (lambda: digest_file(path)) if path else None, tuple(other))


def _folder(folder: Path, inputs: Sequence[TensorSpec], recipe: Recipe | None, labelled: bool) -> Source:
    match recipe:
        case ImageRecipe() | LetterboxRecipe():
            return image_folder(folder, inputs, recipe, labelled)
        case SpeechRecipe():
            return sound_folder(folder, inputs, recipe, labelled)
    if files := list_files(folder, {".npz"}):
        return _npz_folder(folder, files, [spec.name for spec in inputs], labelled)
    what = "a folder of images or sounds needs a recipe that says how they become inputs"
    raise LoadError("DS127", what, where=str(folder), hint="for example --recipe imagenet, yolo or speech")


def _npz_folder(folder: Path, files: list[Path], names: Sequence[str], labelled: bool) -> Source:
    """Files that hold an element each: arrays by input name, and `labels`."""

    def read() -> Raw:
        for path in files:
            arrays = _read_npz(path, names, labelled)
            keys = _match(arrays, names, str(path))
            yield {name: arrays[key] for name, key in keys.items()}, arrays.get(LABELS) if labelled else None

    return Source(str(folder), read, len(files), lambda: digest(folder, files, None))


def _read_npz(path: Path, names: Sequence[str], labelled: bool) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that are needed: those of the inputs, and the labels."""
    found = array_names(path)
    wanted = {*_match(found, names, str(path)).values(), *([LABELS] if labelled and LABELS in found else [])}
    return read_npz(path, sorted(wanted))


def _text(path: Path, inputs: Sequence[TensorSpec], recipe: Recipe | None, labelled: bool) -> Source:
    suffix = path.suffix.lower()
    if isinstance(recipe, TokenRecipe) and suffix in (".jsonl", ".txt"):
        return token_file(path, inputs, recipe, labelled)
    if isinstance(recipe, TableRecipe) and suffix == ".csv":
        return table_file(path, inputs, recipe, labelled)
    name, kind = ("tabular", "table") if suffix == ".csv" else ("tokens", "tokens")
    what = f"a {suffix} file needs a recipe of kind {kind!r}" + (
        f", {recipe.name} is {recipe.kind!r}" if recipe else ""
    )
    raise LoadError("DS127", what, where=str(path), hint=f"for example --recipe {name}")


def _iterable(source: Iterable[Any], names: Sequence[str], labelled: bool) -> Source:
    name = f"Python {type(source).__name__}"
    try:
        first_pass = iter(source)
    except TypeError as error:
        raise LoadError("DS103", f"{name} is no data", because=str(error), hint=_KINDS) from error
    started = [first_pass]

    def read() -> Raw:
        if started:
            return _elements(started.pop(), name, names, labelled)
        if first_pass is source:
            hint = "give a list, a DataLoader or a file, which can be read again"
            raise LoadError("DS121", "the data can be read only once, and was", where=name, hint=hint)
        return _elements(iter(source), name, names, labelled)

    return Source(name, read)


def _elements(source: Iterable[Any], name: str, names: Sequence[str], labelled: bool) -> Raw:
    for index, element in enumerate(source):
        where, label = f"{name}, sample {index}", None
        if isinstance(element, Mapping):
            arrays = {input_name: element[key] for input_name, key in _match(element, names, where).items()}
            label = element.get(LABELS)
        elif isinstance(element, tuple | list):
            if len(element) < len(names):
                what = f"{len(element)} arrays for {len(names)} inputs: {', '.join(names)}"
                raise LoadError("DS122", what, where=where)
            arrays = dict(zip(names, element, strict=False))
            label = element[-1] if len(element) > len(names) else None
        else:
            arrays = dict(zip(names, [element], strict=False))
            if len(names) != 1:
                what = f"one array for {len(names)} inputs: {', '.join(names)}"
                raise LoadError("DS122", what, where=where, hint="give tuples, or dicts by input name")
        yield arrays, label if labelled else None
