"""Frontends: any accepted source becomes a `Model`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsedge.errors import LoadError
from dsedge.model import Model

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")


def load(source: Any, *, example_inputs: Any = None) -> Model:
    """Load a model.

    Args:
        source: path of an ONNX file, a `torch.nn.Module`, or a `Model`, which is returned as it is.
        example_inputs: for a module: a tensor or a tuple of tensors to export it with; axis 0 becomes the dynamic axis
            `batch` where it is longer than 1.

    Returns:
        The model as it was given: nothing is rewritten yet.

    Raises:
        LoadError: DS101 to DS107.
    """
    if isinstance(source, Model):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix.lower() in _PICKLES:
            raise LoadError(
                "DS103",
                "this kind of file is refused",
                where=str(path),
                because="a pickle can run any code when it is read",
                hint="export the model to ONNX, or pass the module itself to dsedge.compile()",
            )
        from dsedge.frontend.onnx import load_onnx

        return load_onnx(path)
    if "torch.nn.modules.module" in {k.__module__ for k in type(source).__mro__}:
        from dsedge.frontend.torch import load_module

        return load_module(source, example_inputs)
    raise LoadError(
        "DS103",
        f"a {type(source).__name__} is not a model",
        hint="give the path of an ONNX file, or a torch.nn.Module with example_inputs",
    )
