"""Optimization profiles: for inputs with open axes the least, usual and greatest shape that an engine is built for."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from dsedge.backends.tensorrt.graphs import compare
from dsedge.backends.tensorrt.settings import Profile
from dsedge.data import Batch
from dsedge.errors import LoadError, VerifyError
from dsedge.model import RANGES, Range, dims
from dsedge.session import first_line

_MOST_RUN = 4


def profiles(model: ir.Model) -> dict[str, Profile]:
    """The profile of each input whose open axes all have a range, by the ranges that the graph carries."""
    ranges = {name: Range(*three) for name, three in json.loads(model.metadata_props.get(RANGES, "{}")).items()}
    found = {}
    for value in model.graph.inputs:
        axes = [Range(d, d, d) if isinstance(d, int) else ranges.get(d or "") for d in dims(value) or ()]
        known = [axis for axis in axes if axis is not None]
        if len(known) == len(axes) and any(not isinstance(d, int) for d in dims(value) or ()):
            least, usual, most = ([axis[i] for axis in known] for i in range(3))
            found[value.name or ""] = Profile(min=least, opt=usual, max=most)
    return found


def require_within(known: Mapping[str, Profile], samples: Sequence[Batch]) -> None:
    """Refuse samples that no engine with these profiles takes.

    Raises:
        LoadError: DS122 naming the first.
    """
    for sample in samples:
        for name, profile in known.items():
            shape = sample.feeds[name].shape
            if not all(a <= b <= c for a, b, c in zip(profile.min, shape, profile.max, strict=True)):
                what = f"a sample has the shape {list(shape)}, and --shape allows {profile.min} to {profile.max}"
                hint = "give a range that the samples lie in, or other samples"
                raise LoadError("DS122", what, where=f"input {name!r}", hint=hint)


def at_ends(
    known: Mapping[str, Profile], floats: ir.Model, graphs: Mapping[str, ir.Model], samples: Sequence[Batch]
) -> list[str]:
    """Run graphs in the least, the usual and the greatest shape, on a sample that is repeated or cut to it.

    Of a batch 4 samples are run at most: what runs with 4 runs with more, and memory grows with them.

    Args:
        known: the profiles; without any there is nothing to run.
        floats: the float graph that they are compared with.
        graphs: by file name.
        samples: of which the first is taken.

    Returns:
        A note on each graph.

    Raises:
        LoadError: DS145 when one does not run in a shape.
        VerifyError: DS501 when one gives NaN or Inf in a shape.
    """
    if not known:
        return []
    batched = _batched(floats.graph, samples[0])
    batches = [_in_shape(samples[0], known, end, batched) for end in ("min", "opt", "max")]
    try:
        ratios = compare(floats, graphs.values(), batches)
    except Exception as error:  # onnxruntime's exception types are not public
        what = "the model does not run in all shapes that --shape allows"
        hint = "give a narrower range, or export the model with these axes open throughout"
        raise LoadError("DS145", what, where="--shape", because=first_line(error), hint=hint) from error
    notes = []
    checked = ", ".join(f"{name} {list(samples[0].feeds[name].shape)}" for name in known)
    for name, near in zip(graphs, ratios, strict=True):
        if not near.finite:
            what = "an output is NaN or Inf in a shape that --shape allows"
            raise VerifyError("DS501", what, where=name, hint="give a narrower range")
        notes.append(f"{name} runs in the least, usual and greatest shape: {near} the float model")
    return [*notes, f"the golden outputs, which a device is compared with, are of the shape {checked} alone"]


def _batched(graph: ir.Graph, sample: Batch) -> set[str]:
    """The inputs whose first axis is an open batch: no input has it elsewhere, and the sample is as long there."""
    shapes = {value.name or "": dims(value) or () for value in graph.inputs}
    others = {axis for shape in shapes.values() for axis in shape[1:]}
    heads = {name: shape[0] for name, shape in shapes.items() if shape and isinstance(shape[0], str)}
    count = sample.count + sample.padding
    return {name for name, head in heads.items() if head not in others and len(sample.feeds[name]) == count}


def _in_shape(
    sample: Batch, known: Mapping[str, Profile], end: Literal["min", "opt", "max"], batched: Collection[str]
) -> Batch:
    feeds = dict(sample.feeds)
    for name, profile in known.items():
        shape: list[int] = getattr(profile, end)
        for axis, length in enumerate(shape):
            wanted = min(length, _MOST_RUN) if axis == 0 and name in batched else length
            feeds[name] = np.take(feeds[name], np.arange(wanted) % feeds[name].shape[axis], axis)
    return replace(sample, feeds=feeds)
