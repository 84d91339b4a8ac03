"""Optimization profiles: for inputs with open axes the least, usual and greatest shape that an engine is built for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from dsedge.backends.tensorrt.settings import Profile
from dsedge.data import Batch
from dsedge.errors import LoadError
from dsedge.model import RANGES, Range, dims


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
