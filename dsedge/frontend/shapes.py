"""Shapes that the user gives to inputs: `--shape image=1,3,224,224`, in Python `shapes={"image": (1, 3, 224, 224)}`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from dsedge.errors import LoadError, did_you_mean
from dsedge.model import Dim, Model, dims
from dsedge.passes.normalize import clone

Shapes = Mapping[str, Sequence[int | str] | str]
"""Input name -> its axes, or the text of them; the name may be "" when the model has one input."""

MAX_ELEMENTS = 2**31
"""How many numbers one input may hold."""

_MAX_AXES = 16
_WORD = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_HINT = "write NAME=1,3,224,224 or NAME=1x3x224x224; a word leaves an axis open: ids=batch,128"


@dataclass(frozen=True)
class InputShape:
    """What the user says about an input.

    Attributes:
        axes: a length or a symbolic name an axis.
        dtype: numpy's name of the element type; None when not said.
    """

    axes: tuple[int | str, ...]
    dtype: str | None = None


def from_options(options: Iterable[str]) -> dict[str, str]:
    """The `--shape` options of a command line as a mapping: the text before the last "=" is the name.

    Raises:
        LoadError: DS145 when a name comes twice.
    """
    found: dict[str, str] = {}
    for option in options:
        name, _, text = option.rpartition("=")
        if name in found:
            raise LoadError("DS145", f"the input {name!r} is given two shapes", where="--shape")
        found[name] = text
    return found


def resolve(shapes: Shapes, inputs: Sequence[str]) -> dict[str, InputShape]:
    """The shapes by the names of inputs.

    Args:
        shapes: as the user gave them.
        inputs: the names that the model has.

    Raises:
        LoadError: DS145 for an input that the model does not have, and for a shape that is none.
    """
    resolved: dict[str, InputShape] = {}
    for given, shape in shapes.items():
        name = inputs[0] if given == "" and len(inputs) == 1 else given
        if name not in inputs:
            what = "the shape needs the name of an input" if name == "" else f"the model has no input {name!r}"
            raise LoadError("DS145", what, where="shape", hint=did_you_mean(name, inputs))
        if name in resolved:
            raise LoadError("DS145", f"the input {name!r} is given two shapes", where="shape")
        resolved[name] = _read(shape, name)
    return resolved


def fix_shapes(model: Model, shapes: Shapes) -> Model:
    """Fix open axes of a model's inputs.

    An axis is open when the model gives it a name, nothing, or does not even know the rank. A name that is fixed in one
    input is fixed wherever it occurs in the graph; what was derived from it is forgotten, to be inferred again.

    Args:
        model: any; it is not changed.
        shapes: which input gets which shape; inputs that are not named keep theirs.

    Returns:
        The same model with those shapes.

    Raises:
        LoadError: DS145 when a shape contradicts the model or another one, or is none.
    """
    specs = {spec.name: spec for spec in model.inputs}
    graph = clone(model.graph)
    values = {value.name: value for value in graph.graph.inputs}
    bound: dict[str, int | str] = {}
    for name, given in resolve(shapes, list(specs)).items():
        if given.dtype not in (None, specs[name].dtype):
            raise _contradiction(name, f"it is {specs[name].dtype} in the model, not {given.dtype}")
        declared: Sequence[Dim] | None = specs[name].shape
        if declared is None:
            declared = (None,) * len(given.axes)
        if len(declared) != len(given.axes):
            raise _contradiction(
                name, f"it has {len(declared)} axes in the model, {specs[name]}, not {len(given.axes)}"
            )
        for axis, (was, now) in enumerate(zip(declared, given.axes, strict=True)):
            if isinstance(was, int) and was != now:
                raise _contradiction(name, f"axis {axis} is {was} in the model, not {now}")
            if isinstance(was, str) and bound.setdefault(was, now) != now:
                raise _contradiction(name, f"the axis {was!r} cannot be both {bound[was]} and {now}")
        values[name].shape = ir.Shape(given.axes)
    for word in bound.values():
        if isinstance(word, str) and bound.get(word, word) != word:
            raise LoadError(
                "DS145", f"the axis {word!r} is {bound[word]} in one input and open in another", where="shape"
            )
    names = "|".join(re.escape(name) for name in bound)
    derived = re.compile(rf"(?<![\w.])({names})(?![\w.])")  # as in "2*seq"
    for graph_like in graph.graphs() if bound else ():
        for value in (*graph_like.inputs, *(output for node in graph_like for output in node.outputs)):
            _substitute(value, bound, derived)
    return model.with_graph(graph)


def _contradiction(name: str, because: str) -> LoadError:
    hint = "`dsedge inspect` shows the shapes of a model; only open axes can be fixed"
    return LoadError("DS145", "the shape does not fit the model", where=f"input {name!r}", because=because, hint=hint)


def _substitute(value: ir.Value, bound: Mapping[str, int | str], derived: re.Pattern[str]) -> None:
    declared = dims(value)
    if declared is None:
        return
    new: list[Dim] = []
    for dim in declared:
        is_derived = isinstance(dim, str) and dim not in bound and derived.search(dim)
        new.append(None if is_derived else bound.get(dim, dim) if isinstance(dim, str) else dim)
    if tuple(new) != declared:
        value.shape = ir.Shape(new)


def _read(shape: Sequence[int | str] | str, name: str) -> InputShape:
    where, dtype = f"shape of {name!r}", None
    if isinstance(shape, str):
        prefix, colon, text = shape.rpartition(":")
        dtype = prefix.strip() if colon else None
        if dtype is not None and dtype not in _DTYPES:
            raise LoadError("DS145", f"{dtype!r} is no element type", where=where, hint=did_you_mean(dtype, _DTYPES))
        # 1x3x224x224 has no words, so its letter x is no part of one.
        parts = text.split("x") if re.fullmatch(r"\s*\d+(x\d+)*\s*", text, re.ASCII) else text.split(",")
        shape = [part.strip() for part in parts]
    try:
        axes = tuple(_axis(axis) for axis in shape)
    except (TypeError, ValueError) as error:
        shown = shape if isinstance(shape, str) else ",".join(map(str, shape)) if isinstance(shape, Sequence) else shape
        raise LoadError(
            "DS145", f"{str(shown)[:80]!r} is no shape", where=where, because=str(error) or None, hint=_HINT
        ) from error
    total = math.prod(axis for axis in axes if isinstance(axis, int))
    if len(axes) > _MAX_AXES or total > MAX_ELEMENTS:
        what = f"{len(axes)} axes" if len(axes) > _MAX_AXES else f"{total} numbers"
        limit = _MAX_AXES if len(axes) > _MAX_AXES else MAX_ELEMENTS
        raise LoadError("DS145", f"the shape is too large: {what}, the limit is {limit}", where=where)
    return InputShape(axes, dtype)


def _axis(axis: object) -> int | str:
    if isinstance(axis, str):
        if _WORD.fullmatch(axis):
            return axis
        if not (axis.isascii() and axis.isdigit() and len(axis) <= 18):
            raise ValueError(f"{axis[:40]!r} is neither a length nor a word")
    length = int(axis) if isinstance(axis, str) else operator.index(axis)  # type: ignore[arg-type]
    if length < 1:
        raise ValueError(f"an axis has the length {length}")
    return length
