"""TensorRT: the artifact is a graph, from which the device builds the engine, bound to its GPU and its TensorRT.

Nothing of NVIDIA is needed here. What is verified is the graph, on the reference runtime; with the extra `tensorrt-rtx`
NVIDIA's compiler is asked what it makes of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from dsedge.backends.base import Artifact, Audit, Predict
from dsedge.backends.tensorrt import oracle
from dsedge.backends.tensorrt.audit import audit as compare_with_plan
from dsedge.backends.tensorrt.capability import capability
from dsedge.backends.tensorrt.contract import contract
from dsedge.backends.tensorrt.finish import finish
from dsedge.backends.tensorrt.graphs import FP32, TYPED, portable_graphs
from dsedge.backends.tensorrt.profiles import profiles
from dsedge.backends.tensorrt.stored import as_computed, in_float32, rounds
from dsedge.backends.tensorrt.summary import result
from dsedge.backends.tensorrt.support import unsupported
from dsedge.backends.tensorrt.typed import BFLOAT, HALF
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


def version() -> str | None:
    """None: TensorRT is on the device."""
    return None


def prepare(model: ir.Model) -> ir.Model:
    """The model itself: the compiler takes the operators as they are."""
    return model


def build(model: ir.Model, folder: Path) -> Artifact:
    """Write a float or Q/DQ graph as `model.fp32.onnx`.

    Only the typed graph can say INT4 blocks and bfloat16: there it is the artifact, `model.fp16.onnx` or
    `model.bf16.onnx`. Elsewhere it lies beside the artifact for the audit; the bundle's own is made by `finish`, which
    knows ranges.
    """
    dtype = BFLOAT if any(map(rounds, model.graph)) else HALF
    graphs = portable_graphs(as_computed(model), dtype)
    for name, graph in graphs.items():
        (folder / name).write_bytes(ir.to_proto(graph).SerializeToString())
    return Artifact(folder / (FP32 if FP32 in graphs and dtype == HALF else TYPED[dtype]))


def load(path: Path, threads: int | None = None) -> Predict:
    """Open a graph on the reference runtime, where every node runs as it is written: no engine is built here."""
    graph = in_float32(ir.load(path)) if path.name == TYPED[BFLOAT] else path
    session = open_session(graph, optimize=False, threads=threads)
    return lambda feeds: [as_array(output) for output in session.run(None, feeds)]


def audit(artifact: Artifact, plan: QuantPlan, target: Target) -> Audit:
    """Ask NVIDIA's compiler about the strongly typed graph, which TensorRT 10 and 11 prefer.

    Not performed where `tensorrt-rtx` is not installed, or builds for nothing near the target's GPU.
    """
    number = capability(target).number
    if oracle.version() is None:
        return _as_planned(plan, f"{oracle.PACKAGE} is not installed ({oracle.PIP_LINE})")
    if number not in oracle.AIMS:
        return _as_planned(plan, f"{oracle.PACKAGE} builds for nothing near compute capability {number}")
    beside = (artifact.main.with_name(name) for name in TYPED.values())
    typed = next((file for file in beside if file.is_file()), artifact.main)
    graph = ir.load(typed)
    shapes = {name: (each.min, each.opt, each.max) for name, each in profiles(graph).items()}
    verdict = oracle.check(graph, number, profiles=shapes)
    found = compare_with_plan(verdict, plan)
    if found.performed or not verdict.accepted or any(n.precision in ("int8", "int4") for n in plan.nodes.values()):
        return found
    note = f": {verdict.aim.note}" if verdict.aim.note else ""
    who = f"{oracle.PACKAGE} {verdict.version}, for compute capability {verdict.aim.built_for}"
    said = f"built by {who}; not an engine of the target{note}"
    return replace(_as_planned(plan, ""), performed=True, summary=said)


def _as_planned(plan: QuantPlan, reason: str) -> Audit:
    kinds = [node.precision for node in plan.nodes.values()]
    floats = kinds.count("float") + kinds.count("fp16")
    summary = f"not audited here: {reason}"
    return Audit(False, summary, kinds.count("int8"), floats, {}, kinds.count("int4"), kinds.count("bf16"))
