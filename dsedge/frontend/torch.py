"""PyTorch modules, through `torch.onnx.export`."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dsedge.errors import BuildError, LoadError
from dsedge.frontend.onnx import from_proto
from dsedge.model import Model

if TYPE_CHECKING:
    import torch

EXPORT_OPSET = 20


def load_module(module: torch.nn.Module, example_inputs: Any) -> Model:
    """Export a module in evaluation mode.

    Args:
        module: any `nn.Module`; its training flag is put back afterwards.
        example_inputs: a tensor, a tuple of positional tensors, or a dict of keyword tensors. Axis 0 becomes the
            dynamic axis `batch` where it is longer than 1, and is fixed at 1 otherwise.

    Raises:
        LoadError: DS107 when there are no example inputs, or PyTorch cannot export the module.
        BuildError: DS402 when PyTorch or onnxscript is missing.
    """
    if example_inputs is None:
        raise LoadError(
            "DS107", "a module needs example inputs", hint="pass example_inputs=(torch.zeros(1, 3, 224, 224),)"
        )
    try:
        import onnxscript  # noqa: F401
        import torch
    except ImportError as error:
        raise BuildError(
            "DS402", "exporting a module needs PyTorch and onnxscript", hint="pip install 'dsedge[torch]'"
        ) from error
    args, kwargs = _arguments(example_inputs)
    batch = torch.export.Dim("batch")
    training = module.training
    name = type(module).__name__
    try:
        with _quiet():
            program = torch.onnx.export(
                module.eval(),
                args,
                kwargs=kwargs or None,
                dynamo=True,
                opset_version=EXPORT_OPSET,
                external_data=False,
                dynamic_shapes=_dynamic(args, kwargs, batch),
                verbose=False,
            )
    except Exception as error:
        raise LoadError(
            "DS107",
            "PyTorch could not export the module",
            where=name,
            because=_first_line(error),
            hint="torch.export.export(module, example_inputs) shows the line at fault",
        ) from error
    finally:
        module.train(training)
    assert program is not None
    proto = program.model_proto
    content = proto.SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    return from_proto(proto, name, f"torch module {name}", digest, folder=None)


def _arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, dict):
        return (), example_inputs
    return (tuple(example_inputs) if isinstance(example_inputs, tuple | list) else (example_inputs,)), {}


def _dynamic(args: tuple[Any, ...], kwargs: dict[str, Any], batch: Any) -> Any:
    def axes(x: Any) -> dict[int, Any]:
        # torch specializes an axis of length 1, so only longer examples can become dynamic.
        return {0: batch} if getattr(x, "ndim", 0) and x.shape[0] > 1 else {}

    return {k: axes(v) for k, v in kwargs.items()} if kwargs else tuple(axes(a) for a in args)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress and warns about itself."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
