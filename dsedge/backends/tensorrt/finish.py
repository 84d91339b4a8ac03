"""Finish: what a deferred bundle has beside its graph, so that the device can build, check and time its engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from dsedge.backends.base import Made
from dsedge.backends.tensorrt.capability import capability
from dsedge.backends.tensorrt.findings import linted
from dsedge.backends.tensorrt.graphs import FP32, TYPED, compare, float_ranges, fp32_graph, typed_graph
from dsedge.backends.tensorrt.profiles import profiles, require_within
from dsedge.backends.tensorrt.settings import LINES, SETTINGS, Graph, Kind, TargetFacts, write_settings
from dsedge.backends.tensorrt.sparsity import sparse_products
from dsedge.backends.tensorrt.stored import as_computed
from dsedge.backends.tensorrt.typed import BFLOAT, HALF
from dsedge.bundle import Role
from dsedge.data import Batch
from dsedge.quant.plan import QuantPlan
from dsedge.target import Target

FLOAT = "model.float.onnx"
"""The float graph, for engines that the bundle's own is compared with."""

_KINDS: tuple[Kind, ...] = ("int4", "int8", "bf16", "fp16")
_MAIN = {"int4": TYPED[HALF], "bf16": TYPED[BFLOAT]}
"""Precision of the engine -> the artifact, where that is a typed graph."""
_SAMPLES = 4
_GOOD_DB, _MARGIN_DB = 40.0, 3.0
"""What is good enough for float16 itself, and how much rounding to it may take from a graph that is worse."""


def finish(folder: Path, made: Made, target: Target) -> tuple[dict[str, Role], list[str]]:
    """Write the strongly typed graph, the float graph to compare with, the settings and the scripts.

    Args:
        folder: of the bundle; the artifact lies in it.
        made: what that was made from.
        target: the board.

    Returns:
        Role of each file that was written, and notes.

    Raises:
        BuildError: DS404 when the lint finds an error in one of the graphs.
        LoadError: DS122 for samples that no profile holds, DS145 for names that a command line cannot hold.
    """
    kind = _kind(made.plan)
    graph, floats = as_computed(made.graph), as_computed(made.floats)
    shapes = profiles(graph)
    require_within(shapes, made.samples)
    notes = ["verified as a graph on onnxruntime; the engine is built on the device, by build.py"]
    beside: dict[str, ir.Model] = {}
    if kind not in ("fp16", "fp32"):
        beside[FLOAT] = fp32_graph(floats)
    if kind not in _MAIN:
        typed, kept = typed_graph(graph, ranges=float_ranges(graph, made.samples))
        reached, said = _compared(typed, graph, floats, made.samples[:_SAMPLES])
        if reached:
            beside[TYPED[HALF]] = typed
            said += f"; {len(kept)} of its nodes stay in float32" if kept else ""
        notes.append(said)
    main = _MAIN.get(kind, FP32)
    notes += linted({main: ir.load(folder / main), **beside}, target)
    for name, model in beside.items():
        (folder / name).write_bytes(ir.to_proto(model).SerializeToString())
    scripts = write_settings(
        folder,
        target=TargetFacts(name=target.name, compute_capability=capability(target).number),
        precision=kind,
        graphs=[each for each in _buildable(kind) if (folder / each.file).is_file()],
        outputs=[value.name or "" for value in made.graph.graph.outputs],
        int8_nodes=_products(made.plan),
        profiles=shapes,
        dynamic=list(shapes),
        workspace_mib=_workspace(target),
        sparsity=capability(target).ampere and bool(sparse_products(graph)[0]),
    )
    roles: dict[str, Role] = {name: "graph" for name in beside}
    for name in scripts:
        roles[name] = "build" if name in (SETTINGS, LINES) else "runner"
    return roles, notes


def _kind(plan: QuantPlan) -> Kind:
    """The precision of the engine; what is not quantized is computed in float16, but for float32 engines."""
    found = {node.precision for node in plan.nodes.values()}
    return next((kind for kind in _KINDS if kind in found), "fp32")


def _compared(typed: ir.Model, graph: ir.Model, floats: ir.Model, samples: Sequence[Batch]) -> tuple[bool, str]:
    """Whether the typed graph is as near to the float one as the float32 graph is, and a sentence on it."""
    wanted, got = compare(floats, graph, samples), compare(floats, typed, samples)
    far = f"{got:.1f} dB from the float model, where the float32 graph reaches {_decibel(wanted)}"
    if got < min(wanted, _GOOD_DB) - _MARGIN_DB:
        return False, f"there is no {TYPED[HALF]}, for TensorRT 11: in float16 it would be {far}"
    return True, f"{TYPED[HALF]}, for TensorRT 10 and 11, was run on onnxruntime too: {far}"


def _decibel(ratio: float) -> str:
    return f"{ratio:.1f} dB" if ratio < float("inf") else "the same numbers"


def _buildable(kind: Kind) -> list[Graph]:
    """What each file can be built as; the float graph stands for engines to compare with."""
    typed = Graph(file=_MAIN.get(kind, TYPED[HALF]), precision="fp16" if kind == "fp32" else kind, typing="strong")
    own = [Graph(file=FP32, precision="int8", typing="weak")] if kind == "int8" else []
    own += [Graph(file=FLOAT, precision="bf16", typing="weak")] if kind == "bf16" else []
    floats = FP32 if kind in ("fp16", "fp32") else FLOAT
    others = [Graph(file=floats, precision="fp16", typing="weak")]
    others += [Graph(file=floats, precision="fp32", typing=typing) for typing in ("weak", "strong")]
    return [*own, typed, *others]


def _products(plan: QuantPlan) -> list[str]:
    """The products that are planned as INT8: of the rest no kernel of its own can tell."""
    eight = [node for node in plan.nodes.values() if node.precision == "int8" and node.head is None]
    return [node.name for node in eight if node.weights or node.op_type == "MatMul"]


def _workspace(target: Target) -> int | None:
    """A quarter of the memory that the GPU shares with the system, in MiB; all that it has where it has its own."""
    own = target.accelerator.memory_mb if target.accelerator else None
    return None if own or target.memory_mb is None else target.memory_mb // 4
