"""Export of the reference models: torch to ONNX, free of traces of the machine, compared with torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn

OPSET = 20

DynamicAxes = Mapping[str, Mapping[int, str]]
"""For an input's name: its symbolic axes, each with the name of its length."""


def export_onnx(
    module: nn.Module,
    examples: Sequence[torch.Tensor],
    path: Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: DynamicAxes | None = None,
) -> None:
    """Write a module as ONNX, weights inside, and compare it with torch.

    The exporter records stack traces, and with them file paths, in every node; they are removed.

    Args:
        module: takes `examples` and returns a tensor or a tuple of tensors; it is put into evaluation mode.
        examples: one tensor an input, in the module's order. Symbolic axes need a length of 2 or more here, since the
            exporter fixes an axis of length 1. The comparison runs on them and, if any axis is symbolic, on their
            first halves.
        path: the file to write.
        input_names: names of the graph's inputs.
        output_names: names of the graph's outputs.
        dynamic_axes: e.g. `{"input_ids": {0: "batch", 1: "sequence"}}`; axes of the same name have the same length.
            All other axes have the example's length.

    Raises:
        RuntimeError: the exporter chose another opset than `OPSET`.
        AssertionError: ONNX Runtime and torch differ by more than 1e-4 of the largest output (at least 1e-4).
    """
    module.eval()
    axes = dynamic_axes or {}
    lengths = {name: torch.export.Dim(name, min=1) for named in axes.values() for name in named.values()}
    program = torch.onnx.export(
        module,
        tuple(examples),
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        input_names=list(input_names),
        output_names=list(output_names),
        dynamic_shapes=tuple({axis: lengths[n] for axis, n in axes.get(name, {}).items()} for name in input_names)
        if axes
        else None,
        verbose=False,
    )
    if program is None or program.model.opset_imports != {"": OPSET}:
        raise RuntimeError(f"the exporter did not write opset {OPSET}")
    model = ClearMetadataAndDocStringPass()(program.model).model
    results = [value for node in model.graph.all_nodes() for value in node.outputs]
    for value in (*model.graph.inputs, *model.graph.initializers.values(), *results):
        value.metadata_props.clear()
    ir.save(model, path)

    halves = [_first_half(example, axes.get(name, {})) for name, example in zip(input_names, examples, strict=True)]
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for tensors in (examples, halves) if axes else (examples,):
        with torch.inference_mode():
            outputs = module(*tensors)
        feeds = {name: tensor.numpy() for name, tensor in zip(input_names, tensors, strict=True)}
        expected = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        for want, have in zip(expected, session.run(list(output_names), feeds), strict=True):
            scale = max(1.0, float(want.abs().max()))
            np.testing.assert_allclose(have, want.numpy(), rtol=0, atol=1e-4 * scale)


def dynamic_export_command(
    build: Callable[[], nn.Module],
    examples: Callable[..., Mapping[str, torch.Tensor]],
    output_names: Sequence[str],
    *,
    lengths: Sequence[int],
    dynamic_axes: DynamicAxes,
) -> None:
    """Run the command line of an `export.py`: write a model with symbolic axes, or with `--static` fixed ones.

    Args:
        build: makes the module.
        examples: makes the inputs, by name, from one length for each name in `dynamic_axes`, in order of appearance.
        output_names: names of the graph's outputs.
        lengths: those of the example for symbolic axes.
        dynamic_axes: as in `export_onnx`.
    """
    names = list(dict.fromkeys(name for named in dynamic_axes.values() for name in named.values()))
    parser = argparse.ArgumentParser(description="Export a reference model as ONNX.")
    parser.add_argument("path", type=Path, help="the ONNX file to write")
    parser.add_argument(
        "--static",
        type=int,
        nargs=len(names),
        metavar=tuple(names),
        help="fixed lengths of these axes; without it they are symbolic",
    )
    arguments = parser.parse_args()
    path: Path = arguments.path
    inputs = examples(*(arguments.static or lengths))
    export_onnx(
        build(),
        list(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=output_names,
        dynamic_axes=None if arguments.static else dynamic_axes,
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _first_half(tensor: torch.Tensor, axes: Mapping[int, str]) -> torch.Tensor:
    """Cut every one of the axes to its first half."""
    for axis in axes:
        tensor = tensor.narrow(axis, 0, tensor.shape[axis] // 2)
    return tensor.contiguous()
