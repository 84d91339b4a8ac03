"""The two portable graphs of a bundle, made of the one Q/DQ graph.

`model.fp32.onnx` serves TensorRT 8.5 to 10: float32 Q/DQ at opset 17, whose builder may compute the rest in float16
(`--fp16`). `model.fp16.onnx` serves 10 and 11: strongly typed, float16 Q/DQ at opset 19 or above. INT4 blocks and
bfloat16 exist in the second only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from dsedge.backends.tensorrt.blocks import holds_blocks, to_signed
from dsedge.backends.tensorrt.opset17 import to_opset17
from dsedge.backends.tensorrt.typed import BFLOAT, HALF, to_typed
from dsedge.bench.runner import sqnr_of_samples
from dsedge.data import Batch
from dsedge.passes.edit import is_constant
from dsedge.quant.calibrate import exposing
from dsedge.session import open_session

FP32 = "model.fp32.onnx"
TYPED = {HALF: "model.fp16.onnx", BFLOAT: "model.bf16.onnx"}


def portable_graphs(
    model: ir.Model, dtype: ir.DataType = HALF, *, ranges: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, ir.Model]:
    """The graphs of a bundle by file name: `fp32_graph`, where there are no INT4 blocks, and `typed_graph`."""
    whole = {} if holds_blocks(model) else {FP32: fp32_graph(model)}
    return whole | {TYPED[dtype]: typed_graph(model, dtype, ranges=ranges)[0]}


def fp32_graph(model: ir.Model) -> ir.Model:
    """The float32 graph: opset 17, which TensorRT 8.5 to 10 read.

    Args:
        model: a float or Q/DQ graph in float32, shapes inferred; left as it is.

    Raises:
        BuildError: DS401 for what opset 17 cannot say, INT4 blocks among it.
    """
    return to_opset17(model)


def typed_graph(
    model: ir.Model, dtype: ir.DataType = HALF, *, ranges: Mapping[str, tuple[float, float]] | None = None
) -> tuple[ir.Model, dict[str, str]]:
    """The strongly typed graph: opset 19, with INT4 blocks 21, which TensorRT 10 and 11 read.

    Args:
        model: a float or Q/DQ graph in float32, shapes inferred; left as it is.
        dtype: FLOAT16 or BFLOAT16.
        ranges: from `float_ranges`; without them an activation beyond float16 overflows.

    Returns:
        The graph, with float32 inputs and outputs, and for each node that computes in float32 the reason.

    Raises:
        BuildError: DS401 for INT4 blocks that are not symmetric.
    """
    return to_typed(to_signed(model), dtype, ranges=ranges)


def float_ranges(model: ir.Model, batches: Iterable[Batch]) -> dict[str, tuple[float, float]]:
    """The least and the greatest finite value of every float activation of a float or Q/DQ graph over samples.

    Infinities stand in masks, and float16 has them too.
    """
    nodes = [node for node in model.graph if node.op_type != "DequantizeLinear" or not is_constant(node.inputs[0])]
    names = [v.name for node in nodes for v in node.outputs if v.dtype == ir.DataType.FLOAT and v.name]
    session = open_session(exposing(model, names))
    found: dict[str, tuple[float, float]] = {}
    for batch in batches:
        for name, array in zip(names, session.run(names, batch.feeds), strict=True):
            least, most = np.min(array, initial=np.inf), np.max(array, initial=-np.inf)
            if not np.isfinite(least + most):
                finite = array[np.isfinite(array)]
                least, most = np.min(finite, initial=np.inf), np.max(finite, initial=-np.inf)
            if least <= most:
                low, high = found.get(name, (least, most))
                found[name] = float(min(low, least)), float(max(high, most))
    return found


def compare(reference: ir.Model, graph: ir.Model, batches: Sequence[Batch]) -> float:
    """Signal to quantization noise of a graph against another one, both in ONNX Runtime on the CPU.

    Nothing is fused: every Q/DQ pair rounds as it is written.

    Returns:
        In dB, of the worst float output; infinite where all are equal, -300 where one is not finite.
    """
    sessions = [open_session(each, optimize=False) for each in (reference, graph)]
    columns = [zip(*(session.run(None, batch.feeds) for batch in batches), strict=True) for session in sessions]
    ratios = [sqnr_of_samples(wanted, got) for wanted, got in zip(*columns, strict=True)]
    return min((ratio for ratio in ratios if ratio is not None), default=np.inf)
