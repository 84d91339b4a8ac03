"""TorchScript archives, which `torch.jit.save` writes.

A TorchScript file is a program. `torch.jit.load` does not run Python: it compiles the file's own language, and runs
`__setstate__` of its classes while it loads, and `forward` when it is exported. Of what that language can reach, some
operators write files, map files into memory, or call other machines, and classes of C++ libraries can do anything.
Files whose code or data names one of these are refused. What is left can compute, and can compute forever: nothing
bounds its time or memory, so a file from a stranger belongs into a container.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dsedge.errors import LoadError
from dsedge.frontend.archive import open_archive, unsafe
from dsedge.frontend.examples import from_given, from_shapes
from dsedge.frontend.shapes import Shapes
from dsedge.frontend.torch import EXPORT_OPSET, export_error, quiet, read_export, require_torch
from dsedge.model import Model

if TYPE_CHECKING:
    import onnx

_OPERATORS = re.compile(
    rb"\b(save|from_file|load_tensor|rpc_sync|rpc_async|rpc_remote|classes|c10d\w*|symm_mem|debugprims|inductor\w*)\b"
)
_CLASSES = re.compile(rb"torch\W+(classes|distributed)\b")


def load_torchscript(path: Path, example_inputs: Any = None, shapes: Shapes | None = None) -> Model:
    """Load a TorchScript module, export it, and check that the graph computes what the module does.

    Args:
        path: the file.
        example_inputs: a tensor, a tuple of positional tensors, or a dict by name.
        shapes: in the place of example inputs: a shape for each tensor that `forward` needs. Words become dynamic axes.

    Raises:
        LoadError: DS102 damaged, DS103 not safe to load, DS107 no examples, not exported, or exported wrong; DS145 for
            shapes that do not fit it.
        BuildError: DS402 when PyTorch or onnxscript is missing.
    """
    require_torch()
    import torch

    _check(path)
    where = str(path)
    try:
        with quiet():
            module = torch.jit.load(where, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever a hostile file leads to
        raise export_error(error, where, "save it again with the version of PyTorch that is installed here") from error
    inputs = _examples(module, example_inputs, shapes, where)
    try:
        with quiet(), torch.no_grad():
            expected = module(*inputs.args)
            proto = _export(module, inputs)
    except Exception as error:
        raise export_error(error, where, "check the shapes and element types: --shape ids=int64:1,128") from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    model = read_export(proto, path.stem, where, digest)
    _compare(model, inputs.args, expected)
    return model


def _check(path: Path) -> None:
    reader = open_archive(path)
    for name in reader.get_all_records():
        pattern = _OPERATORS if name.startswith("code/") else _CLASSES if name.endswith(".pkl") else None
        if pattern and not name.endswith(".debug_pkl") and (found := pattern.search(reader.get_record(name))):
            raise unsafe(path, f"{name[:80]} names {found[0].decode()!r}, which reaches beyond the model")


@dataclass(frozen=True)
class _Inputs:
    """Positional inputs, their names, and by name the axes that stay open."""

    args: tuple[Any, ...]
    names: list[str]
    dynamic: dict[str, dict[int, str]]


def _examples(module: Any, example_inputs: Any, shapes: Shapes | None, where: str) -> _Inputs:
    arguments = module.forward.schema.arguments[1:]
    names = [argument.name for argument in arguments]
    if example_inputs is not None:
        examples = from_given(example_inputs)
    elif shapes:
        # The exporter wants every argument, those with defaults included.
        examples = from_shapes(shapes, dict.fromkeys(names, True), where)
    else:
        hint = " ".join(f"--shape {name}=1,3,224,224" for name in names)
        raise LoadError("DS107", "a TorchScript file does not say which shapes its inputs have", where=where, hint=hint)
    others = [a.name for a in arguments if str(a.type) not in ("Tensor", "Optional[Tensor]")]
    if others or len(examples.args or examples.kwargs) != len(names) or not examples.kwargs.keys() <= set(names):
        what = f"forward() takes {', '.join(f'{a.name}: {a.type}' for a in arguments)}; a tensor is needed for each"
        hint = "torch.jit.trace(module, example_inputs) makes a module without the other arguments"
        raise LoadError("DS107", what, where=where, hint=hint)
    args = examples.args or tuple(examples.kwargs[name] for name in names)
    dynamic = {names[key] if isinstance(key, int) else key: axes for key, axes in examples.dynamic.items()}
    return _Inputs(args, names, dynamic)


def _export(module: Any, inputs: _Inputs) -> onnx.ModelProto:
    import onnx
    import torch

    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        inputs.args,
        buffer,  # type: ignore[arg-type]  # the exporter of TorchScript writes to it
        dynamo=False,
        opset_version=EXPORT_OPSET,
        input_names=inputs.names,
        dynamic_axes=inputs.dynamic,
    )
    return cast("onnx.ModelProto", onnx.ModelProto.FromString(buffer.getvalue()))


def _compare(model: Model, args: tuple[Any, ...], expected: Any) -> None:
    """The exporter follows one path through the program; here it must at least compute what the program does."""
    from dsedge.session import first_line
    from dsedge.verify import compare_floats, predictor

    feeds = {spec.name: x.numpy() for spec, x in zip(model.inputs, args, strict=True)}
    try:
        got = predictor(model.graph, optimize=False)(feeds)
        _, complaint = compare_floats(model.outputs, [list(_flat(expected))], [got])
    except Exception as error:  # the runtime's own when it runs, dsedge's when it refuses the graph
        what = "the exported graph does not run, or has other outputs"
        raise LoadError("DS107", what, where=model.source, because=first_line(error)) from error
    if complaint:
        because = "the exporter does not follow loops and branches that depend on data as the program does"
        raise LoadError("DS107", f"the exported graph: {complaint}", where=model.source, because=because)


def _flat(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from _flat(part)
    elif hasattr(value, "numpy"):
        yield value.numpy()
