"""Random samples: they let a model be compiled without data, and say nothing about real data.

Floats are standard normal. Integers are indices where the graph uses them as such: below the length of the axis that a
Gather takes from, or of a OneHot. Masks (by name) and truth values are ones, so that nothing is masked. Other
integers are 0 or 1, uint8 is 0 to 255, strings are "text". Open axes have the usual length of their range, or that
which weights impose, if any do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dsedge.data.batches import Source
from dsedge.data.fit import Feeds, batch_axis, takes_samples
from dsedge.data.lengths import imposed_lengths
from dsedge.errors import LoadError
from dsedge.model import Model, TensorSpec, static_shape

SAMPLES = 32
LENGTH = 64
"""Of every axis that the model leaves open, but the batch: enough for five poolings, and equal in all inputs."""
_MOST_NUMBERS = 2**28  # of one sample
_MOVES = frozenset(
    "Cast Identity Reshape Unsqueeze Squeeze Flatten Transpose Slice Expand Concat Split Clip Where".split()
)


def random_source(model: Model, inputs: Sequence[TensorSpec]) -> Source:
    """Seeded random samples that fit inputs of a model.

    Raises:
        LoadError: DS122 for an input whose rank or dtype is not known, or that is too large.
    """
    single = takes_samples(inputs)
    values = {value.name: value for value in model.graph.graph.inputs}
    imposed = {spec.name: imposed_lengths(values[spec.name]) for spec in inputs}
    symbols = {
        dim: imposed[spec.name][axis]
        for spec in inputs
        for axis, dim in enumerate(spec.shape or ())
        if isinstance(dim, str) and axis in imposed[spec.name]
    }
    symbols |= {dim: lengths.usual for dim, lengths in model.ranges.items()}
    shapes = [_shape(spec, single, imposed[spec.name], symbols) for spec in inputs]
    bounds = [index_bound(values[spec.name]) for spec in inputs]

    def read() -> Iterator[tuple[Feeds, None]]:
        rng = np.random.default_rng(0)
        for _ in range(SAMPLES):
            made = zip(inputs, shapes, bounds, strict=True)
            yield {spec.name: _noise(rng, spec, shape, bound) for spec, shape, bound in made}, None

    return Source("random", read, SAMPLES)


def index_bound(value: ir.Value) -> int | None:
    """The length of the shortest axis that a value is an index into; None when it is none, or nothing is known."""
    bounds: list[int] = []
    seen: set[ir.Value] = set()
    walk = [value]
    while walk:
        v = walk.pop()
        if v in seen:
            continue
        seen.add(v)
        for node, index in v.uses():
            if node.op_type in _MOVES or (node.op_type.startswith("Gather") and index == 0):
                walk += node.outputs
            elif node.op_type in ("Gather", "GatherElements") and index == 1 and node.inputs[0] is not None:
                shape = static_shape(node.inputs[0])
                bounds += [shape[node.attributes.get_int("axis", 0)]] if shape else []
            elif node.op_type == "OneHot" and index == 0 and node.inputs[1] is not None:
                depth = ir.convenience.get_const_tensor(node.inputs[1])
                bounds += [int(depth.numpy().reshape(-1)[0])] if depth is not None else []
    return min(bounds, default=None)


def _shape(spec: TensorSpec, single: bool, imposed: Mapping[int, int], symbols: Mapping[str, int]) -> list[int]:
    numbers = spec.dtype not in ("string", "unknown") and np.dtype(spec.dtype).kind in "fiub"
    if spec.shape is None or not (numbers or spec.dtype == "string"):
        hint = "give real samples"
        raise LoadError("DS122", f"no random data can be made for {spec}", where="random", hint=hint)
    axis = batch_axis(spec)
    open_ = [1 if i == axis else imposed.get(i, LENGTH) for i in range(len(spec.shape))]
    sizes = [
        dim if isinstance(dim, int) else symbols.get(dim or "", size)
        for dim, size in zip(spec.shape, open_, strict=True)
    ]
    if single:
        del sizes[axis]
    if math.prod(sizes) > _MOST_NUMBERS:
        raise LoadError("DS122", f"random data for {spec} would be too large", where="random", hint="give real samples")
    return sizes


def _noise(rng: np.random.Generator, spec: TensorSpec, shape: list[int], bound: int | None) -> np.ndarray:
    if spec.dtype == "string":
        return np.full(shape, "text")
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "b" or "mask" in spec.name.lower():
        return np.ones(shape, dtype)
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    end = bound or (256 if dtype == np.uint8 else 2)
    return np.asarray(rng.integers(0, min(end, int(np.iinfo(dtype).max) + 1), shape)).astype(dtype)
