"""Shapes that the user gives to inputs: `--shape image=1,3,224,224`, in Python `shapes={"image": (1, 3, 224, 224)}`.

An axis is a length, a word that leaves it open, or a range of lengths: `1:8:32`, the least, the usual, the greatest.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from dsedge.errors import LoadError, did_you_mean
from dsedge.model import Dim, Model, Range, dims
from dsedge.passes.normalize import clone

Axes = Sequence[int | str | tuple[int, int, int]]

Shapes = Mapping[str, Axes | str]
"""Input name -> its axes, or the text of them; the name may be "" when the model has one input."""

Axis = int | Range | str

MAX_ELEMENTS = 2**31
"""How many numbers one input may hold."""

_MAX_AXES = 16
_WORD = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_NUMBERS = re.compile(r"\s*[\d:]+(x[\d:]+)*\s*", re.ASCII)
_HINT = "write NAME=1,3,224,224 or NAME=1x3x224x224; a word leaves an axis open: ids=batch,128; a range: ids=1:8:32,128"


@dataclass(frozen=True)
class InputShape:
    """What the user says about an input.

    Attributes:
        axes: a length, a range of lengths or a symbolic name an axis.
        dtype: numpy's name of the element type; None when not said.
    """

    axes: tuple[Axis, ...]
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
        The same model with those shapes. An axis that has a range stays open, and `Model.ranges` says so.

    Raises:
        LoadError: DS145 when a shape contradicts the model or another one, or is none.
    """
    specs = {spec.name: spec for spec in model.inputs}
    graph = clone(model.graph)
    values = {value.name: value for value in graph.graph.inputs}
    bound: dict[str, Axis] = {}
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
            if isinstance(now, Range) and was is None:
                declared = (*declared[:axis], was := f"{name}_axis{axis}", *declared[axis + 1 :])
            if isinstance(was, str) and bound.setdefault(was, now) != now:
                raise _contradiction(name, f"the axis {was!r} cannot be both {bound[was]} and {now}")
        pairs = zip(declared, given.axes, strict=True)
        values[name].shape = ir.Shape([was if isinstance(now, Range) else now for was, now in pairs])
    ranges = {word: axis for word, axis in bound.items() if isinstance(axis, Range)}
    bound = {word: axis for word, axis in bound.items() if word not in ranges}
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
    return replace(model, graph=graph, ranges={**model.ranges, **ranges})


def keep_ranges(model: Model, shapes: Shapes | None) -> Model:
    """A model that was exported with these shapes, with the ranges among them."""
    known = [spec.name for spec in model.inputs]
    given = resolve(shapes, known) if shapes and set(shapes) <= {"", *known} else {}
    ranged = {name: shape for name, shape in given.items() if any(isinstance(axis, Range) for axis in shape.axes)}
    return fix_shapes(model, {name: shape.axes for name, shape in ranged.items()}) if ranged else model


def _contradiction(name: str, because: str) -> LoadError:
    hint = "`dsedge inspect` shows the shapes of a model; only open axes can be fixed"
    return LoadError("DS145", "the shape does not fit the model", where=f"input {name!r}", because=because, hint=hint)


def _substitute(value: ir.Value, bound: Mapping[str, Axis], derived: re.Pattern[str]) -> None:
    declared = dims(value)
    if declared is None:
        return
    new: list[Dim] = []
    for dim in declared:
        is_derived = isinstance(dim, str) and dim not in bound and derived.search(dim)
        fixed = bound.get(dim, dim) if isinstance(dim, str) else dim
        new.append(None if is_derived or isinstance(fixed, Range) else fixed)
    if tuple(new) != declared:
        value.shape = ir.Shape(new)


def _read(shape: Axes | str, name: str) -> InputShape:
    where, dtype = f"shape of {name!r}", None
    if isinstance(shape, str):
        prefix, colon, text = shape.partition(":")
        named = bool(colon) and "," not in prefix and not prefix.strip().isdigit()
        dtype, text = (prefix.strip(), text) if named else (None, shape)
        if dtype is not None and dtype not in _DTYPES:
            raise LoadError("DS145", f"{dtype!r} is no element type", where=where, hint=did_you_mean(dtype, _DTYPES))
        # 1x3x224x224 has no words, so its letter x is no part of one.
        parts = text.split("x") if _NUMBERS.fullmatch(text) else text.split(",")
        shape = [part.strip() for part in parts]
    try:
        axes = tuple(_axis(axis) for axis in shape)
    except (TypeError, ValueError) as error:
        shown = shape if isinstance(shape, str) else ",".join(map(str, shape)) if isinstance(shape, Sequence) else shape
        raise LoadError(
            "DS145", f"{str(shown)[:80]!r} is no shape", where=where, because=str(error) or None, hint=_HINT
        ) from error
    lengths = [axis.greatest if isinstance(axis, Range) else axis for axis in axes]
    total = math.prod(length for length in lengths if isinstance(length, int))
    if len(axes) > _MAX_AXES or total > MAX_ELEMENTS:
        what = f"{len(axes)} axes" if len(axes) > _MAX_AXES else f"{total} numbers"
        limit = _MAX_AXES if len(axes) > _MAX_AXES else MAX_ELEMENTS
        raise LoadError("DS145", f"the shape is too large: {what}, the limit is {limit}", where=where)
    return InputShape(axes, dtype)


def _axis(axis: object) -> Axis:
    if isinstance(axis, str) and ":" in axis:
        return _range(axis.split(":"))
    if isinstance(axis, tuple):
        return _range(axis)
    return _length(axis)


def _range(lengths: Sequence[object]) -> Range:
    numbers = [_length(length) for length in lengths]
    whole = [number for number in numbers if isinstance(number, int)]
    if len(numbers) != 3 or whole != numbers or whole != sorted(whole):
        raise ValueError(f"{':'.join(map(str, lengths))[:40]!r} is no range: the least, the usual, the greatest length")
    return Range(*whole)


def _length(axis: object) -> int | str:
    if isinstance(axis, str):
        if _WORD.fullmatch(axis):
            return axis
        if not (axis.isascii() and axis.isdigit() and len(axis) <= 18):
            raise ValueError(f"{axis[:40]!r} is neither a length nor a word")
    length = int(axis) if isinstance(axis, str) else operator.index(axis)  # type: ignore[arg-type]
    if length < 1:
        raise ValueError(f"an axis has the length {length}")
    return length
