"""Shapes for runtimes that want the length of every axis before they run (`Contract.static`)."""

from __future__ import annotations

import re

from dsedge.data.fit import batch_axis
from dsedge.errors import LoadError
from dsedge.frontend.shapes import fix_shapes
from dsedge.model import Dim, Model, TensorSpec

_NAME = re.compile(r"[^\x00-\x1f\x7f']{1,500}")
"""What a command line can hold between single quotes: builders are told the lengths of an input by its name."""


def with_static_axes(model: Model, runtime: str, *, ranges: bool = False) -> tuple[Model, list[str]]:
    """Fix the open batch axes of a model's inputs at 1.

    The batch axis is N in an input's layout, else axis 0. A name that stands there in one input is the batch wherever
    it stands, unless it stands on another axis of an input whose batch axis is open under a name of its own: in
    `ids[batch, seq], positions[seq]` the name `seq` is no batch.

    Args:
        model: as it was loaded; it is not changed.
        runtime: that wants it, for people.
        ranges: whether a range of lengths (`Model.ranges`) will do.

    Returns:
        The model, and a note for each input that was fixed.

    Raises:
        LoadError: DS106 when another axis is open, or not even the rank is known, all inputs at once; or when an input
            has a range and a name that no command line holds.
    """
    ranged = model.ranges if ranges else {}

    def known(dim: Dim) -> bool:
        return isinstance(dim, int) or dim in ranged

    for spec in model.inputs:
        if not set(spec.shape or ()).isdisjoint(ranged) and not _NAME.fullmatch(spec.name):
            raise LoadError(
                "DS106",
                f"the name of the input {spec.name!r}, which has a range of lengths, cannot be written down",
                where=model.source,
                because=f"{runtime} is told ranges on a command line, which holds no quotes and no control characters",
                hint="rename the input in the model, or give each of its axes one length",
            )
    open_inputs = [spec for spec in model.inputs if spec.shape is None or not all(map(known, spec.shape))]
    if not open_inputs:
        return model, []
    batch = _batch_names(open_inputs) - set(ranged)
    shapes = {spec.name: _fixed(spec, batch) for spec in open_inputs}
    refused = [spec for spec in open_inputs if not all(map(known, shapes[spec.name] or ("?",)))]
    if refused:
        listed = "; ".join(str(spec) for spec in refused)
        wanted = " ".join(f"--shape {spec.name}={_example(shapes[spec.name])}" for spec in refused)
        if ranges:
            several = " ".join(f"--shape {spec.name}={_ranged(spec, shapes[spec.name])}" for spec in refused)
            wanted += f"; or ranges, the least, usual and greatest length: {several}"
        raise LoadError(
            "DS106",
            f"{runtime} wants the length of every axis, and these inputs leave some open: {listed}",
            where=model.source,
            hint=f"give the lengths, for example {wanted}",
        )
    fixed = fix_shapes(model, {name: [d for d in shape or () if d is not None] for name, shape in shapes.items()})
    notes = [f"{runtime} wants fixed shapes: the open batch axis of {spec.name!r} is 1" for spec in open_inputs]
    return fixed, notes


def _batch_dim(spec: TensorSpec) -> Dim:
    return spec.shape[batch_axis(spec)] if spec.shape else 1


def _batch_names(specs: list[TensorSpec]) -> set[str]:
    """The names that mean the batch."""
    names = {dim for spec in specs if isinstance(dim := _batch_dim(spec), str)}
    for spec in specs:
        if not isinstance(_batch_dim(spec), int):
            names -= {d for axis, d in enumerate(spec.shape or ()) if isinstance(d, str) and axis != batch_axis(spec)}
    return names


def _fixed(spec: TensorSpec, batch: set[str]) -> list[Dim] | None:
    """The shape with the batch axis at 1; None when the rank is unknown."""
    if spec.shape is None:
        return None
    return [
        1 if dim in batch or (dim is None and axis == batch_axis(spec)) else dim for axis, dim in enumerate(spec.shape)
    ]


def _ranged(spec: TensorSpec, shape: list[Dim] | None) -> str:
    """The same with ranges: of the batch, and of what else is open."""
    axes = zip(spec.shape or (None, None), shape or (1, None), strict=True)
    return ",".join(
        "16:32:128" if not isinstance(now, int) else str(now) if isinstance(before, int) else "1:4:8"
        for before, now in axes
    )


def _example(shape: list[Dim] | None) -> str:
    return ",".join(str(d) if isinstance(d, int) else "128" for d in shape) if shape else "1,128"
