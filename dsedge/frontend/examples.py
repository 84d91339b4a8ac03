"""Example inputs to export a module of PyTorch with, made from the shapes that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsedge.errors import LoadError
from dsedge.frontend.shapes import Axis, InputShape, Shapes, resolve
from dsedge.model import Range

if TYPE_CHECKING:
    import torch

_BATCH, _LENGTH = 2, 32
"""Lengths for words: a word is an open axis, and the exporter needs some length to go through the module with."""


@dataclass(frozen=True)
class Examples:
    """What a module is exported with.

    Attributes:
        args: positional inputs.
        kwargs: inputs by name; empty when there are positional ones.
        dynamic: position or name of an input -> its axes that stay open, and their names.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic: dict[int | str, dict[int, str]]


def from_given(example_inputs: Any) -> Examples:
    """The user's own examples: a tensor, a tuple of positional tensors, or a dict by name.

    Axis 0 stays open under the name `batch` where it is longer than 1: PyTorch specializes an axis of length 1.
    """

    def axes(x: Any) -> dict[int, str]:
        return {0: "batch"} if getattr(x, "ndim", 0) and x.shape[0] > 1 else {}

    if isinstance(example_inputs, dict):
        return Examples((), example_inputs, {name: axes(x) for name, x in example_inputs.items()})
    args = tuple(example_inputs) if isinstance(example_inputs, tuple | list) else (example_inputs,)
    return Examples(args, {}, {i: axes(x) for i, x in enumerate(args)})


def from_shapes(shapes: Shapes, parameters: Mapping[str, bool], where: str) -> Examples:
    """Seeded examples: normal noise for floats, zeros and ones for integers.

    Args:
        shapes: as the user gave them; the element type is float32 unless they say another.
        parameters: name of each tensor that the module takes -> whether it is needed.
        where: how to name the module to people.

    Raises:
        LoadError: DS145 for a shape that does not fit, DS107 when an input that is needed has none.
    """
    import torch

    resolved = resolve(shapes, list(parameters))
    missing = [name for name, needed in parameters.items() if needed and name not in resolved]
    if missing:
        hint = " ".join(f"--shape {name}=..." for name in missing)
        raise LoadError("DS107", f"no shape for the input {missing[0]!r}", where=where, hint=hint)
    generator = torch.Generator().manual_seed(0)
    # In the order of the parameters, which is the order of the inputs of the exported graph.
    inputs = {name: _example(resolved[name], generator) for name in parameters if name in resolved}
    dynamic: dict[int | str, dict[int, str]] = {
        name: {i: _word(axis, name, i) for i, axis in enumerate(resolved[name].axes) if not isinstance(axis, int)}
        for name in inputs
    }
    return Examples((), inputs, dynamic)


def _word(axis: Axis, name: str, number: int) -> str:
    return axis if isinstance(axis, str) else f"{name}_axis{number}"


def _length(axis: Axis, number: int) -> int:
    if isinstance(axis, Range):
        return max(axis.usual, 2)  # the exporter takes an axis of 1 for a fixed one
    return axis if isinstance(axis, int) else _LENGTH if number else _BATCH


def _example(shape: InputShape, generator: torch.Generator) -> torch.Tensor:
    import torch

    lengths = [_length(axis, i) for i, axis in enumerate(shape.axes)]
    dtype = getattr(torch, shape.dtype or "float32")
    if dtype.is_floating_point:
        return torch.randn(lengths, generator=generator).to(dtype)
    return torch.randint(0, 2, lengths, generator=generator).to(dtype)
