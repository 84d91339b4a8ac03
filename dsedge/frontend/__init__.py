"""Frontends: any accepted source becomes a `Model`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsedge.errors import LoadError
from dsedge.model import Model

if TYPE_CHECKING:
    from dsedge.frontend.shapes import Shapes


def load(
    source: Any,
    *,
    example_inputs: Any = None,
    shapes: Shapes | None = None,
    factory: str | Callable[[], Any] | None = None,
) -> Model:
    """Load a model.

    Args:
        source: path of an ONNX, `.pt2`, TorchScript, state_dict or `.safetensors` file, a `torch.nn.Module`, or a
            `Model`. What a file is, is told by its content.
        example_inputs: for what PyTorch exports: a tensor, a tuple of tensors or a dict of tensors to export it with;
            axis 0 becomes the dynamic axis `batch` where it is longer than 1.
        shapes: input -> its axes, (1, 3, 224, 224) or ("batch", 128) or the text "int64:batch,128"; (1, 8, 32) or
            "1:8:32" for an axis is a range of lengths, for runtimes that build for one. Fixes the open axes
            of a graph; for a module, a TorchScript file and a state_dict it takes the place of example inputs.
        factory: for weights: `package.module:function`, or a function, that returns the module they belong to, or the
            module and its example inputs. It is the user's code and is run.

    Returns:
        The model as it was given: nothing is rewritten yet.

    Raises:
        LoadError: DS101 to DS108, DS145 for shapes or a factory that do not fit.
        BuildError: DS402 when a package is missing.
    """
    if example_inputs is not None and shapes:
        raise LoadError("DS145", "example inputs have shapes of their own", hint="give example_inputs or shapes")
    if isinstance(source, str | Path):
        return _load_file(Path(source), example_inputs, shapes, factory)
    if factory is not None:
        raise _no_factory("this source")
    if "torch.nn.modules.module" in {k.__module__ for k in type(source).__mro__}:
        from dsedge.frontend.shapes import keep_ranges
        from dsedge.frontend.torch import load_module

        return keep_ranges(load_module(source, example_inputs, shapes), shapes)
    if isinstance(source, Model):
        return _fixed(source, shapes)
    raise LoadError(
        "DS103",
        f"a {type(source).__name__} is not a model",
        hint="give the path of a model file, or a torch.nn.Module with example_inputs",
    )


def _load_file(
    path: Path, example_inputs: Any, shapes: Shapes | None, factory: str | Callable[[], Any] | None
) -> Model:
    from dsedge.frontend.formats import by_suffix, recognise, refusal
    from dsedge.frontend.shapes import keep_ranges

    kind = recognise(path, weights=factory is not None)
    if kind in ("checkpoint", "safetensors", "pickle"):
        if factory is None:
            hint = "give the function that makes its module: --factory package.module:function"
            raise LoadError("DS103", "this file holds weights, but no model", where=str(path), hint=hint)
        from dsedge.frontend.weights import load_weights

        return keep_ranges(load_weights(path, kind, factory, example_inputs, shapes), shapes)
    if factory is not None:
        raise _no_factory(str(path))
    if kind == "torchscript":
        from dsedge.frontend.torchscript import load_torchscript

        return keep_ranges(load_torchscript(path, example_inputs, shapes), shapes)
    if kind == "pt2":
        from dsedge.frontend.pt2 import load_pt2

        return _fixed(load_pt2(path), shapes)
    from dsedge.frontend.onnx import load_onnx

    try:
        return _fixed(load_onnx(path), shapes)
    except LoadError as error:
        foreign = by_suffix(path)
        if error.code == "DS102" and foreign is not None:
            raise refusal(foreign, path) from error
        raise


def _fixed(model: Model, shapes: Shapes | None) -> Model:
    if not shapes:
        return model
    from dsedge.frontend.shapes import fix_shapes

    return fix_shapes(model, shapes)


def _no_factory(where: str) -> LoadError:
    hint = "leave out --factory; it is for a state_dict and for .safetensors files"
    return LoadError("DS145", "a factory is for files that hold weights alone", where=where, hint=hint)
