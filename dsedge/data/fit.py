"""Fits one sample to a model's inputs: one rule for the shapes, whatever the sample comes from.

Let r be the rank of a model input. An array of rank r is a whole input; an array of rank r-1 is one sample without the
batch axis, and gets one. Samples can be put together into batches; a whole input stays as it is, except where the model
fixes another batch size than it has: then it is taken for samples. An element that has both kinds is a batch of one.

Dtypes: floats of any width become the model's; integers become the model's integer type when their values fit. Integers
for a float input are refused without exception, since nobody can say whether 0..255 was meant to be 0..1; so are floats
for an integer input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsedge.errors import LoadError
from dsedge.model import Dim, TensorSpec

Feeds = dict[str, np.ndarray]
"""Arrays by input name."""


@dataclass(frozen=True, eq=False)
class Item:
    """One sample, or one whole input of `count` samples: `feeds` with their batch axis, `labels` [count, ...]."""

    feeds: Feeds
    count: int
    single: bool
    labels: np.ndarray | None

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the feeds, in the order of the model's inputs, and of the labels."""
        return [array.shape for array in (*self.feeds.values(), self.labels) if array is not None]


def batch_axis(spec: TensorSpec) -> int:
    """Which axis of an input counts samples: N in its layout, else the first one."""
    return spec.layout.index("N") if spec.layout and "N" in spec.layout else 0


def fixed_batch(inputs: Sequence[TensorSpec]) -> int | None:
    """The batch size that the model fixes, or None when it leaves it open."""
    sizes = _batch_sizes(inputs)
    return sizes.pop() if len(sizes) == 1 else None


def sample_dims(spec: TensorSpec) -> tuple[Dim, ...] | None:
    """The axes of one sample: all but the batch axis; None when the rank is unknown or there is no axis."""
    if not spec.shape:
        return None
    return tuple(dim for axis, dim in enumerate(spec.shape) if axis != batch_axis(spec))


def takes_samples(inputs: Sequence[TensorSpec]) -> bool:
    """Whether every input has a batch axis, all of the same size: only then samples can be put together."""
    return all(spec.shape for spec in inputs) and len(_batch_sizes(inputs)) <= 1


def to_numpy(value: Any, where: str) -> np.ndarray:
    """A numpy array of anything that is one in substance, torch tensors included.

    Raises:
        LoadError: DS122 for something else.
    """
    try:
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LoadError("DS122", "this is no array", where=where, because=str(error)) from error
    if array.dtype.kind == "O" and not all(isinstance(element, str) for element in array.flat):
        raise LoadError("DS122", f"this is no array of numbers but {type(value).__name__}", where=where)
    return array


def fit(arrays: Mapping[str, Any], label: Any, inputs: Sequence[TensorSpec], where: str) -> list[Item]:
    """The items that one element of a source makes; `where` names the element in errors.

    Args:
        arrays: by input name, all of the model's inputs.
        label: None, one label, or as many as `arrays` hold samples.
        inputs: of the model.
        where: the source and the sample's number.

    Raises:
        LoadError: DS122 for a rank, shape or dtype that does not fit, DS128 for NaN and Inf, DS124 for labels that do
            not fit the samples.
    """
    feeds: Feeds = {}
    single: dict[str, bool] = {}
    for spec in inputs:
        at = f"{where}, input {spec.name!r}"
        array = _cast(to_numpy(arrays[spec.name], at), spec, at)
        single[spec.name] = spec.shape is not None and array.ndim == len(spec.shape) - 1
        feeds[spec.name] = np.expand_dims(array, batch_axis(spec)) if single[spec.name] else array
        if not _fits(feeds[spec.name].shape, spec, any_batch=True):
            raise _wrong_shape(array.shape, spec, at)
    labels = None if label is None else _finite(to_numpy(label, f"{where}, label"), f"{where}, label")

    together = all(single.values())
    if together and not takes_samples(inputs):
        because = f"the model's inputs fix different batch sizes: {', '.join(map(str, inputs))}"
        raise LoadError("DS122", "samples without a batch axis do not fit", where=where, because=because)
    count = 1 if any(single.values()) else _count(feeds, labels, inputs, where)
    if split := not any(single.values()) and _is_another_batch(feeds, inputs):
        count = feeds[inputs[0].name].shape[batch_axis(inputs[0])]
    for spec in inputs:
        if not _fits(feeds[spec.name].shape, spec, any_batch=together or split):
            raise _wrong_shape(feeds[spec.name].shape, spec, f"{where}, input {spec.name!r}")
    labels = None if labels is None else _labels(labels, count, where, single=together)
    if not split:
        return [Item(feeds, count, together, labels)]
    return [
        Item(
            {spec.name: feeds[spec.name].take([i], axis=batch_axis(spec)) for spec in inputs},
            1,
            True,
            None if labels is None else labels[i : i + 1],
        )
        for i in range(count)
    ]


def _batch_sizes(inputs: Sequence[TensorSpec]) -> set[int]:
    sizes = (spec.shape[batch_axis(spec)] for spec in inputs if spec.shape)
    return {size for size in sizes if isinstance(size, int)}


def _cast(array: np.ndarray, spec: TensorSpec, where: str) -> np.ndarray:
    if array.size == 0:
        raise LoadError("DS122", f"the array holds nothing, its shape is {array.shape}", where=where)
    if spec.dtype == "string" and array.dtype.kind in "UO":
        return array.astype(np.str_)
    want = np.dtype(spec.dtype) if spec.dtype not in ("string", "unknown") else np.dtype(np.void)
    have = array.dtype
    if want.kind == "f" and have.kind == "f":
        with np.errstate(over="ignore"):
            return _finite(np.asarray(array, want, order="C"), where)
    if want.kind in "iub" and have.kind in "iub":
        low, high = (0, 1) if want.kind == "b" else (np.iinfo(want.name).min, np.iinfo(want.name).max)
        if int(array.min()) < low or int(array.max()) > high:
            because = f"values from {array.min()} to {array.max()} do not fit"
            raise LoadError("DS122", f"the model takes {want}, this is {have}", where=where, because=because)
        return np.asarray(array, want, order="C")
    hint = None
    if want.kind == "f" and have.kind in "iub":
        hint = "scale the values as in training and give them as float32; they are not converted silently"
    raise LoadError("DS122", f"the model takes {spec.dtype}, this is {have}", where=where, hint=hint)


def _finite(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise LoadError("DS128", f"the data holds NaN or Inf (as {array.dtype})", where=where)
    return array


def _fits(shape: tuple[int, ...], spec: TensorSpec, *, any_batch: bool) -> bool:
    if spec.shape is None:
        return True
    free = batch_axis(spec) if any_batch else -1
    return len(shape) == len(spec.shape) and all(
        axis == free or not isinstance(want, int) or have == want
        for axis, (have, want) in enumerate(zip(shape, spec.shape, strict=True))
    )


def _wrong_shape(shape: tuple[int, ...], spec: TensorSpec, where: str) -> LoadError:
    dims = [str(dim) if dim is not None else "?" for dim in spec.shape or ()]
    sample = [dim for axis, dim in enumerate(dims) if axis != batch_axis(spec)]
    what = f"the shape is {list(shape)}, the model takes [{', '.join(dims)}]"
    if dims:
        what += f", or [{', '.join(sample)}] for one sample"
    return LoadError("DS122", what.replace("'", ""), where=where)


def _count(feeds: Feeds, labels: np.ndarray | None, inputs: Sequence[TensorSpec], where: str) -> int:
    """Samples in whole inputs: the length of the batch axis where there is one, else 1.

    N in the layout is a batch axis for sure. A dynamic first axis is one unless a single label comes with it (it may be
    the time axis of a model without batches). A fixed first axis is one when as many labels come with it.
    """
    lengths: dict[str, int] = {}
    counts = []
    for spec in inputs:
        if not spec.shape:
            continue
        dim, length = spec.shape[batch_axis(spec)], feeds[spec.name].shape[batch_axis(spec)]
        if isinstance(dim, str) and lengths.setdefault(dim, length) != length:
            what = f"the inputs disagree on {dim!r}: {lengths[dim]} and {length}"
            raise LoadError("DS122", what, where=f"{where}, input {spec.name!r}")
        surely = spec.layout is not None and "N" in spec.layout
        dynamic = not isinstance(dim, int) and (labels is None or labels.ndim > 0)
        labelled = labels is not None and labels.ndim > 0 and len(labels) == length
        if surely or dynamic or labelled:
            counts.append(length)
    return counts[0] if counts else 1


def _is_another_batch(feeds: Feeds, inputs: Sequence[TensorSpec]) -> bool:
    """Whether whole inputs have a batch size that is not the one the model fixes, in all inputs the same."""
    fixed = fixed_batch(inputs)
    if fixed is None or not takes_samples(inputs):
        return False
    sizes = {feeds[spec.name].shape[batch_axis(spec)] for spec in inputs}
    return len(sizes) == 1 and fixed not in sizes


def _labels(labels: np.ndarray, count: int, where: str, *, single: bool) -> np.ndarray:
    if not single and labels.ndim and len(labels) == count:
        return labels
    if count == 1:
        return labels[None]
    raise LoadError("DS124", f"{labels.size} labels for {count} samples", where=where)
