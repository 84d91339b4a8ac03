"""Export of the reference models: torch to ONNX, free of traces of the machine, compared with torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn

OPSET = 20


def export_onnx(
    module: nn.Module,
    example: torch.Tensor,
    path: Path,
    *,
    input_name: str,
    output_name: str,
    dynamic_batch: bool = False,
) -> None:
    """Write a module with one input and one output as ONNX, weights inside, and compare it with torch.

    The exporter records stack traces, and with them file paths, in every node; they are removed.

    Args:
        module: the module; it is put into evaluation mode.
        example: an input, first axis = samples. The comparison runs on it.
        path: the file to write.
        input_name: name of the graph's input.
        output_name: name of the graph's output.
        dynamic_batch: leave the first axis symbolic, as `batch`; otherwise it has the example's length.

    Raises:
        RuntimeError: the exporter chose another opset than `OPSET`.
        AssertionError: ONNX Runtime and torch differ by more than 1e-4 of the largest output (at least 1e-4).
    """
    module.eval()
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        input_names=[input_name],
        output_names=[output_name],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},) if dynamic_batch else None,
        verbose=False,
    )
    if program is None or program.model.opset_imports != {"": OPSET}:
        raise RuntimeError(f"the exporter did not write opset {OPSET}")
    model = ClearMetadataAndDocStringPass()(program.model).model
    results = [value for node in model.graph for value in node.outputs]
    for value in (*model.graph.inputs, *model.graph.initializers.values(), *results):
        value.metadata_props.clear()
    ir.save(model, path)

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (example, example[:1]) if dynamic_batch else (example,):
        with torch.inference_mode():
            expected = module(batch).numpy()
        (actual,) = session.run([output_name], {input_name: batch.numpy()})
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
