"""TensorRT: the artifact is a graph, from which the device builds the engine, bound to its GPU and its TensorRT.

Nothing of NVIDIA is needed here. What is verified is the graph, on the reference runtime; with the extra `tensorrt-rtx`
NVIDIA's compiler is asked what it makes of it.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from dsedge.backends.base import Artifact, Audit, Predict
from dsedge.backends.tensorrt.asked import ask, reason_not_to_ask
from dsedge.backends.tensorrt.audit import as_planned
from dsedge.backends.tensorrt.audit import audit as compare_with_plan
from dsedge.backends.tensorrt.capability import capability
from dsedge.backends.tensorrt.contract import contract
from dsedge.backends.tensorrt.finish import finish
from dsedge.backends.tensorrt.graphs import FLOAT, FP32, TYPED, float_graph, in_opset17, portable_graphs
from dsedge.backends.tensorrt.here import complete
from dsedge.backends.tensorrt.stored import as_computed, in_float32, rounds
from dsedge.backends.tensorrt.summary import result
from dsedge.backends.tensorrt.support import unsupported
from dsedge.backends.tensorrt.typed import BFLOAT, HALF
from dsedge.backends.tensorrt.versions import builds, is_read, kind_of
from dsedge.bench.runner import as_array
from dsedge.quant.plan import QuantPlan
from dsedge.session import open_session
from dsedge.target import Target

__all__ = [
    "DEFERRED",
    "EXTRA",
    "NAME",
    "RUNNER",
    "audit",
    "build",
    "complete",
    "contract",
    "finish",
    "load",
    "prepare",
    "result",
    "unsupported",
    "version",
]

NAME = "tensorrt"
EXTRA = "tensorrt-rtx"
RUNNER = Path(__file__).parents[2] / "bench" / "runner.py"
DEFERRED = True
_RANGES = "dsedge.ranges"


def version() -> str | None:
    """None: TensorRT is on the device."""
    return None


def prepare(model: ir.Model) -> ir.Model:
    """The model itself: the compiler takes the operators as they are."""
    return model


def build(model: ir.Model, folder: Path) -> Artifact:
    """Write a float or Q/DQ graph as `model.fp32.onnx`.

    Only the typed graph can say INT4 blocks, bfloat16 and operators that opset 17 does not have: there it is the
    artifact, `model.fp16.onnx` or `model.bf16.onnx`, and the float graph is `model.float.onnx`. Elsewhere it lies
    beside the artifact for the audit, which a float graph has none of; the bundle's own is made by `finish`, which
    knows ranges.
    """
    dtype = BFLOAT if any(map(rounds, model.graph)) else HALF
    computed = as_computed(model)
    if computed is model and not any(node.op_type == "DequantizeLinear" for node in model.graph):
        whole = in_opset17(model)
        main = FP32 if whole else FLOAT
        graphs = {main: whole or float_graph(model)}
    else:
        graphs = portable_graphs(computed, dtype)
        main = FP32 if FP32 in graphs else TYPED[dtype]
        if main == TYPED[HALF]:  # `finish` replaces it by one that knows ranges
            graphs[main].metadata_props[_RANGES] = "unknown"
    for name, graph in graphs.items():
        (folder / name).write_bytes(ir.to_proto(graph).SerializeToString())
    return Artifact(folder / main)


def load(path: Path, threads: int | None = None) -> Predict:
    """Open a graph on the reference runtime, where every node runs as it is written: no engine is built here.

    Its values are rounded to float16 or bfloat16 where it says so; to float16 not while ranges are unknown.
    """
    model = ir.load(path)
    session = open_session(
        path if _RANGES in model.metadata_props else in_float32(model), optimize=False, threads=threads
    )
    return lambda feeds: [as_array(output) for output in session.run(None, feeds)]


def audit(artifact: Artifact, plan: QuantPlan, target: Target) -> Audit:
    """Ask NVIDIA's compiler about the graph that the target's TensorRT builds, of those that lie there.

    Not performed where `tensorrt-rtx` is not installed, or builds for nothing near the target's GPU.
    """
    number = capability(target).number
    if reason := reason_not_to_ask(number):
        return as_planned(plan, reason)
    beside = (artifact.main.with_name(name) for name in TYPED.values())
    files = {file.name: file for file in (*artifact.files, *beside) if file.is_file()}
    file = files[builds(files, kind_of(plan), target) or artifact.main.name]
    if not is_read(file.name, target):
        return as_planned(
            plan, f"this target's TensorRT does not read {file.name}: there a builder's flag says the same"
        )
    return compare_with_plan(ask(file, number), plan, file.name)
