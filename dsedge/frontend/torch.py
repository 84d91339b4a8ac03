"""PyTorch modules, through `torch.onnx.export`."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dsedge.errors import BuildError, LoadError
from dsedge.frontend.examples import Examples, from_given, from_shapes
from dsedge.frontend.onnx import from_proto
from dsedge.frontend.shapes import Shapes
from dsedge.model import Model

if TYPE_CHECKING:
    import onnx
    import torch

EXPORT_OPSET = 20


def load_module(
    module: torch.nn.Module,
    example_inputs: Any = None,
    shapes: Shapes | None = None,
    *,
    name: str | None = None,
    source: str | None = None,
) -> Model:
    """Export a module in evaluation mode.

    Args:
        module: any `nn.Module`; its training flag is put back afterwards.
        example_inputs: a tensor, a tuple of positional tensors, or a dict of keyword tensors. Axis 0 becomes the
            dynamic axis `batch` where it is longer than 1, and is fixed at 1 otherwise.
        shapes: in the place of example inputs: a shape for each tensor that `forward` needs. Words become dynamic axes.
        name: of the model; the module's class when None.
        source: where it came from, for people.

    Raises:
        LoadError: DS107 when there are no example inputs, or PyTorch cannot export the module; DS145 for shapes that
            do not fit it.
        BuildError: DS402 when PyTorch or onnxscript is missing.
    """
    require_torch()
    kind = type(module).__name__
    if example_inputs is not None:
        examples = from_given(example_inputs)
    elif shapes:
        examples = from_shapes(shapes, _parameters(module), kind)
    else:
        hint = "pass example_inputs=(torch.zeros(1, 3, 224, 224),), or give shapes: --shape NAME=1,3,224,224"
        raise LoadError("DS107", "a module needs example inputs", where=kind, hint=hint)
    training = module.training
    try:
        proto = export(module.eval(), kind, examples)
    finally:
        module.train(training)
    digest = hashlib.sha256(proto.SerializeToString()).hexdigest()
    return read_export(proto, name or kind, source or f"torch module {kind}", digest)


def require_torch() -> None:
    """Import what exporting needs.

    Raises:
        BuildError: DS402 when PyTorch or onnxscript is missing.
    """
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        hint = "pip install 'dsedge[torch]'"
        raise BuildError("DS402", "models of PyTorch need PyTorch and onnxscript", hint=hint) from error


def export(program: Any, where: str, examples: Examples | None = None) -> onnx.ModelProto:
    """Export a module or an `ExportedProgram` with the exporter that is built on `torch.export`.

    Args:
        program: what to export.
        where: how to name it to people.
        examples: for a module; a program brings its own.

    Raises:
        LoadError: DS107 when PyTorch cannot.
    """
    import torch

    given = examples or Examples((), {}, {})
    dims: dict[str, Any] = {}

    def dynamic(key: int | str) -> dict[int, Any]:
        return {
            axis: dims.setdefault(word, torch.export.Dim(word)) for axis, word in given.dynamic.get(key, {}).items()
        }

    shapes: Any = {key: dynamic(key) for key in given.kwargs} or tuple(dynamic(i) for i in range(len(given.args)))
    try:
        with quiet():
            exported = torch.onnx.export(
                program,
                given.args,
                kwargs=given.kwargs or None,
                dynamo=True,
                opset_version=EXPORT_OPSET,
                external_data=False,
                dynamic_shapes=shapes or None,
                verbose=False,
            )
    except Exception as error:
        raise export_error(
            error, where, "torch.export.export(module, example_inputs) shows the line at fault"
        ) from error
    assert exported is not None
    return exported.model_proto


def export_error(error: Exception, where: str, hint: str) -> LoadError:
    """DS107 with the first line of what PyTorch says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    because = lines[0] if lines else type(error).__name__
    return LoadError("DS107", "PyTorch could not export the module", where=where, because=because, hint=hint)


def read_export(proto: onnx.ModelProto, name: str, source: str, fingerprint: str) -> Model:
    """The model out of what PyTorch exported.

    Raises:
        LoadError: DS107 when PyTorch silently took another opset than the one that was asked for, and as `from_proto`.
    """
    model = from_proto(proto, name, source, fingerprint, folder=None)
    if model.source_opset != EXPORT_OPSET:
        what = f"PyTorch exported opset {model.source_opset}, asked for {EXPORT_OPSET}"
        raise LoadError("DS107", what, where=source, hint="update PyTorch and onnxscript")
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporters print their progress and warn about themselves."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _parameters(module: torch.nn.Module) -> dict[str, bool]:
    """The parameters of `forward`, and whether each is needed."""
    parameters = inspect.signature(module.forward).parameters.values()
    named = (p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return {p.name: p.default is p.empty for p in named}
