"""The two portable graphs of a bundle, made of the one Q/DQ graph.

`model.fp32.onnx` serves TensorRT 8.5 to 10: float32 Q/DQ at opset 17, whose builder may compute the rest in float16
(`--fp16`). `model.fp16.onnx` serves 10 and 11: strongly typed, float16 Q/DQ at opset 19 or above. INT4 blocks exist in
it only, at opset 21. `model.bf16.onnx` has opset 22, which TensorRT reads from 10.6 on (onnx-tensorrt, the versions of
docs/operators.md); before, the builder's flag makes bfloat16 of the float graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dsedge.backends.tensorrt.blocks import to_signed
from dsedge.backends.tensorrt.opset17 import to_opset17, with_all_axes
from dsedge.backends.tensorrt.stored import in_float32
from dsedge.backends.tensorrt.typed import BFLOAT, HALF, to_typed
from dsedge.bench.runner import agreement, difference, sqnr_of_samples
from dsedge.data import Batch
from dsedge.errors import BuildError
from dsedge.passes.edit import is_constant
from dsedge.quant.calibrate import exposing
from dsedge.session import open_session

FP32 = "model.fp32.onnx"
FLOAT = "model.float.onnx"
"""The float graph, where the artifact has no float32 twin: for engines to compare with, which are otherwise made of the
graph for INT8 on the device (`device/trt_floats.py`), and for a TensorRT that does not read bfloat16's opset."""
TYPED = {HALF: "model.fp16.onnx", BFLOAT: "model.bf16.onnx"}


def portable_graphs(model: ir.Model, dtype: ir.DataType = HALF) -> dict[str, ir.Model]:
    """The graphs of a Q/DQ graph by file name: `typed_graph`, and `fp32_graph` where that can say the same."""
    whole = in_opset17(model) if dtype == HALF else None
    return ({FP32: whole} if whole else {}) | {TYPED[dtype]: typed_graph(model, dtype)[0]}


def float_graph(model: ir.Model) -> ir.Model:
    """A float graph for engines to compare with: at opset 17, or where that cannot say it as TensorRT 10 reads it."""
    return in_opset17(model) or with_all_axes(model)


def in_opset17(model: ir.Model) -> ir.Model | None:
    """The float32 graph for all versions of TensorRT; None where INT4 blocks or what came later is in it."""
    try:
        return fp32_graph(model)
    except BuildError:
        return None


def fp32_graph(model: ir.Model) -> ir.Model:
    """The float32 graph: opset 17, which TensorRT 8.5 to 10 read.

    Args:
        model: a float or Q/DQ graph in float32, shapes inferred; left as it is.

    Raises:
        BuildError: DS401 for what opset 17 cannot say, INT4 blocks among it.
    """
    return to_opset17(model)


def typed_graph(
    model: ir.Model,
    dtype: ir.DataType = HALF,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    kept: Mapping[str, str] | None = None,
) -> tuple[ir.Model, dict[str, str]]:
    """The strongly typed graph: opset 19, with INT4 blocks 21, which TensorRT 10 and 11 read.

    Args:
        model: a float or Q/DQ graph in float32, shapes inferred; left as it is.
        dtype: FLOAT16 or BFLOAT16.
        ranges: from `float_ranges`; without them an activation beyond float16 overflows.
        kept: node name -> reason, for nodes that are to compute in float32 whatever their numbers.

    Returns:
        The graph, with float32 inputs and outputs, and for each node that computes in float32 the reason.

    Raises:
        BuildError: DS401 for INT4 blocks that are not symmetric, and for Pad or Resize of axes that are computed.
    """
    return to_typed(with_all_axes(to_signed(model)), dtype, ranges=ranges, kept=kept)


def float_ranges(model: ir.Model, batches: Iterable[Batch]) -> dict[str, tuple[float, float]]:
    """The least and the greatest finite value of every float activation of a float or Q/DQ graph over samples.

    Infinities stand in masks, and float16 has them too.
    """
    nodes = [node for node in model.graph if node.op_type != "DequantizeLinear" or not is_constant(node.inputs[0])]
    names = [v.name for node in nodes for v in node.outputs if v.dtype == ir.DataType.FLOAT and v.name]
    found: dict[str, tuple[float, float]] = {}
    if not names:
        return found
    session = open_session(exposing(model, names))
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


@dataclass(frozen=True)
class Nearness:
    """How near a graph is to another one.

    Attributes:
        ratios: of each output in dB; None where it is equal or no float, -300 where one is not finite.
        equal: share of equal values, of that output that is no float and has the least.
        finite: whether all is finite that is finite in the other one.
    """

    ratios: tuple[float | None, ...]
    equal: float
    finite: bool

    @property
    def decibel(self) -> float:
        """The worst ratio, infinite where there is none."""
        return min((ratio for ratio in self.ratios if ratio is not None), default=np.inf)

    def __str__(self) -> str:
        ratio = f"{self.decibel:.1f} dB from" if self.decibel < np.inf else "no distance from"
        ratio = ratio if self.finite else "NaN or Inf, unlike"
        return ratio if self.equal == 1 else f"{100 * self.equal:.1f}% equal in outputs that are no floats, {ratio}"


def compare(reference: ir.Model, graphs: Iterable[ir.Model], batches: Sequence[Batch]) -> list[Nearness]:
    """How near graphs are to another one, all in ONNX Runtime on the CPU.

    Nothing is fused: every Q/DQ pair rounds as it is written, and every node of a typed graph to its type.
    """
    wanted = _outputs(reference, batches)
    found = []
    for graph in graphs:
        pairs = list(zip(wanted, _outputs(graph, batches), strict=True))
        equal = min((agreement(*pair) for pair in pairs), default=1.0)
        finite = all(_is_finite(a, b) for pair in pairs for a, b in zip(*pair, strict=True))
        found.append(Nearness(tuple(sqnr_of_samples(*pair) for pair in pairs), equal, finite))
    return found


def _is_finite(reference: np.ndarray, other: np.ndarray) -> bool:
    if reference.dtype.kind != "f" or reference.shape != other.shape:
        return True
    return bool(np.isfinite(difference(reference, other)[1]).all())


def _outputs(model: ir.Model, batches: Sequence[Batch]) -> list[tuple[np.ndarray, ...]]:
    """Of each output its arrays over all batches."""
    session = open_session(in_float32(model), optimize=False)
    return list(zip(*(session.run(None, batch.feeds) for batch in batches), strict=True))
