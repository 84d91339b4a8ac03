"""Opens calibration and evaluation data: a file, a folder of images, the word "random", or any Python iterable."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.data.arrays import array_names, read_npy, read_npz
from dsedge.data.batches import Data, Source
from dsedge.data.fit import batch_axis, takes_samples, to_numpy
from dsedge.data.images import class_indices, digest, list_images, read_images
from dsedge.data.recipe import ImageRecipe, load_recipe
from dsedge.errors import LoadError
from dsedge.model import Model, TensorSpec

RANDOM_SAMPLES = 32
_MOST_RANDOM = 2**28  # numbers of one sample
LABELS = "labels"
_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".joblib"}
_KINDS = 'give an .npz or .npy file, a folder of images with a recipe, "random", or a Python iterable'

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
            a folder of images, with an image recipe. With labels: a subfolder a class, in sorted order.
            "random": 32 seeded samples, standard normal for floats, 0 or 1 for integers. Says nothing about real data.
            an iterable of arrays, of dicts by input name, or of tuples of inputs. When `labelled` a dict has `labels`
            and a tuple ends with the label. It may be one that can be read only once.
        model: whose inputs the samples must fit; `dsedge.data.fit` has the rule for shapes and dtypes.
        recipe: name or path, for a folder of images. Arrays are taken as they are.
        labelled: whether each sample needs a label.

    Raises:
        LoadError: DS103 refused or unknown kind, DS121 unreadable, DS122 does not fit the inputs, DS123 empty, DS124
            labels, DS127 recipe, DS128 NaN or Inf.
        BuildError: DS402 when images are to be read without Pillow.
    """
    return Data(_open(source, model.inputs, recipe, labelled), model.inputs, labelled=labelled)


def _open(
    source: str | Path | Iterable[Any], inputs: Sequence[TensorSpec], recipe: str | Path | None, labelled: bool
) -> Source:
    names = [spec.name for spec in inputs]
    if isinstance(source, Mapping):
        return _mapping("arrays in memory", source, names, labelled)
    if not isinstance(source, str | Path):
        return _iterable(source, names, labelled)
    if source == "random":
        return _random(inputs, labelled)
    path = Path(source)
    if path.suffix.lower() in _PICKLES:
        because = "reading a pickle runs code that is in it"
        raise LoadError("DS103", "pickles are refused", where=str(path), because=because, hint=_KINDS)
    if path.is_dir():
        return _folder(path, inputs, recipe, labelled)
    if not path.is_file():
        raise LoadError("DS121", "there is no such file or folder", where=str(path))
    if path.suffix.lower() == ".npz":
        found = array_names(path)
        wanted = {*_match(found, names, str(path)).values(), *([LABELS] if labelled and LABELS in found else [])}
        return _mapping(str(path), read_npz(path, sorted(wanted)), names, labelled, path)
    if path.suffix.lower() == ".npy":
        return _mapping(str(path), {path.stem: read_npy(path)}, names, labelled, path)
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
    columns = {
        input_name: to_numpy(arrays[key], f"{name}, {key!r}") for input_name, key in _match(arrays, names, name).items()
    }
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

    return Source(name, read, count, (lambda: _file_sha256(path)) if path else None)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder(folder: Path, inputs: Sequence[TensorSpec], recipe: str | Path | None, labelled: bool) -> Source:
    where = str(folder)
    if recipe is None:
        raise LoadError("DS127", "a folder of images needs a recipe", where=where, hint="for example --recipe imagenet")
    steps = load_recipe(recipe)
    if not isinstance(steps, ImageRecipe):
        raise LoadError(
            "DS127", f"a folder of images needs a recipe of kind 'image', {steps.name} is 'array'", where=where
        )
    if len(inputs) != 1:
        raise LoadError("DS122", f"images are for a model with one input, this one has {len(inputs)}", where=where)
    spec = inputs[0]
    if spec.layout not in ("NCHW", "NHWC"):
        because = "no operator of the model says which of its axes are channels, and it is not guessed from the shape"
        hint = "give the samples as an .npz file, in the model's own layout"
        what = f"the layout of the input {spec} is {'not known' if spec.layout is None else 'not one of images'}"
        raise LoadError("DS122", what, where=where, because=because, hint=hint)
    layout, images = spec.layout, list_images(folder)
    labels = class_indices(folder, images) if labelled else [None] * len(images)

    def read() -> Raw:
        for array, label in zip(read_images(images, steps, layout), labels, strict=True):
            yield {spec.name: array}, label

    return Source(where, read, len(images), lambda: digest(folder, images, steps))


def _random(inputs: Sequence[TensorSpec], labelled: bool) -> Source:
    if labelled:
        raise LoadError("DS124", "random data has no labels", where="random")
    shapes, single = [], takes_samples(inputs)
    for spec in inputs:
        axis = batch_axis(spec)
        # A dynamic batch axis becomes 1; no other axis has a length that could be made up.
        dims = [1 if i == axis and not isinstance(dim, int) else dim for i, dim in enumerate(spec.shape or ())]
        if single:
            del dims[axis]
        sizes = [dim for dim in dims if isinstance(dim, int)]
        if spec.shape is None or len(sizes) < len(dims) or spec.dtype in ("string", "unknown"):
            hint = "give real samples, they also say which lengths occur"
            raise LoadError("DS122", f"no random data can be made for {spec}", where="random", hint=hint)
        if math.prod(sizes) > _MOST_RANDOM:
            hint = "give real samples"
            raise LoadError("DS122", f"random data for {spec} would be too large", where="random", hint=hint)
        shapes.append(sizes)

    def read() -> Raw:
        rng = np.random.default_rng(0)
        for _ in range(RANDOM_SAMPLES):
            yield {spec.name: _noise(rng, spec, shape) for spec, shape in zip(inputs, shapes, strict=True)}, None

    return Source("random", read, RANDOM_SAMPLES)


def _noise(rng: np.random.Generator, spec: TensorSpec, shape: list[int]) -> np.ndarray:
    dtype = np.dtype(spec.dtype)
    values = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
    return np.asarray(values).astype(dtype)


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
