"""Finish: what a deferred bundle has beside its graph, so that the device can build, check and time its engine."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from dsedge.backends.base import Finished, Made
from dsedge.backends.tensorrt import oracle
from dsedge.backends.tensorrt.asked import ask, reason_not_to_ask
from dsedge.backends.tensorrt.audit import refusal
from dsedge.backends.tensorrt.capability import capability
from dsedge.backends.tensorrt.findings import linted
from dsedge.backends.tensorrt.graphs import (
    FLOAT,
    FP32,
    TYPED,
    float_graph,
    fp32_graph,
)
from dsedge.backends.tensorrt.half import asked_float32, in_half, named_after, sentence
from dsedge.backends.tensorrt.operators import doubt
from dsedge.backends.tensorrt.profiles import at_ends, profiles, require_within
from dsedge.backends.tensorrt.quantizers import PRODUCTS
from dsedge.backends.tensorrt.settings import LINES, SETTINGS, Graph, Kind, target_facts, write_settings
from dsedge.backends.tensorrt.sparsity import sparse_products
from dsedge.backends.tensorrt.stored import as_computed
from dsedge.backends.tensorrt.typed import BFLOAT, HALF
from dsedge.backends.tensorrt.versions import buildable, builds, is_read, kind_of
from dsedge.bundle import Role
from dsedge.errors import BuildError, VerifyError
from dsedge.quant.plan import QuantPlan
from dsedge.target import Target


def finish(folder: Path, made: Made, target: Target) -> Finished:
    """Write the strongly typed graph, the float graph to compare with, the settings and the scripts.

    Args:
        folder: that the artifact lies in.
        made: what that was made from.
        target: the board.

    Returns:
        Role of each file that was written, notes, and which graph the target's TensorRT builds.

    Raises:
        BuildError: DS404 when the lint finds an error in one of the graphs, or NVIDIA's parser refuses the one that is
            built; DS401 for what TensorRT 8 cannot be told.
        LoadError: DS122 for samples that no profile holds, DS145 for shapes in a profile that the model does not run
            in, and for names that a command line cannot hold.
        VerifyError: DS501 when a graph gives NaN or Inf in a shape of a profile, or INT4 in float16 another result.
    """
    kind = kind_of(made.plan)
    graph, floats = as_computed(made.graph), as_computed(made.floats)
    shapes = profiles(graph)
    require_within(shapes, made.samples)
    notes = ["verified as a graph on onnxruntime; the engine is built on the device, by build.py"]
    main = next(name for name in (FP32, TYPED[BFLOAT], TYPED[HALF], FLOAT) if (folder / name).is_file())
    own, half = {main: ir.load(folder / main)}, None
    beside = {} if main in (FP32, FLOAT) else {FLOAT: float_graph(floats)}
    typed = is_read(TYPED[HALF], target)
    if not typed and main != FP32:
        fp32_graph(graph)  # which says what opset 17 lacks
    if kind == "fp32":
        notes.append("the engine computes in float32; --precision fp16 is for one in float16")
    if kind != "bf16":
        half = in_half(graph, floats, made.samples, asked_float32(made.plan))
        notes += [sentence(half, typed=typed)] if kind != "fp32" else []  # an engine to compare with
        if not half.good and (main == TYPED[HALF] or kind == "fp16"):
            raise VerifyError("DS501", sentence(half, typed=typed), hint=f"--precision int8 or fp32, not {kind}")
        if half.good and typed:  # where it is the artifact, `build` wrote it without ranges
            own[TYPED[HALF]] = beside[TYPED[HALF]] = half.graph
    notes += linted({**own, **beside}, target)
    notes += at_ends(shapes, floats, own, made.samples)
    for name in TYPED.values():  # what `build` wrote for the audit
        if name != main:
            (folder / name).unlink(missing_ok=True)
    for name, model in beside.items():
        (folder / name).write_bytes(ir.to_proto(model).SerializeToString())
    files = {main, *beside}
    graphs = [
        each.model_copy(update={"golden_sqnr_db": list(half.near.ratios)}) if half and _in_float16(each, kind) else each
        for each in buildable(kind, files)
    ]
    builds_file = builds(files, kind, target) or main
    if kind != "fp32" and is_read(builds_file, target):
        notes += _refused(folder / builds_file, capability(target).number)
    scripts = write_settings(
        folder,
        target=target_facts(target),
        precision=kind,
        graphs=graphs,
        outputs=[value.name or "" for value in made.graph.graph.outputs],
        int8_nodes=_products(made.plan),
        profiles=shapes,
        dynamic=list(shapes),
        workspace_mib=_workspace(target),
        sparsity=capability(target).ampere and bool(sparse_products(graph)[0]),
        fp16=half is None or half.good,
        float32_nodes=sorted(named_after(half.kept, own[main])) if half and main == FP32 else [],
    )
    roles: dict[str, Role] = {name: "graph" for name in beside if name != main}
    for name in scripts:
        roles[name] = "build" if name in (SETTINGS, LINES) else "runner"
    return Finished(roles, notes, builds_file)


def _in_float16(graph: Graph, kind: Kind) -> bool:
    """Whether a graph is built into what computes as the typed one, which nobody verified as the artifact.

    Beside a quantized graph what is built in float16 is another one, the float model's.
    """
    return graph.file == TYPED[HALF] or (graph.precision == "fp16" and kind in ("fp16", "fp32"))


def _refused(file: Path, capability: str) -> list[str]:
    """A note where NVIDIA's compiler does not build the graph that the device is to build.

    Raises:
        BuildError: DS404 where its parser does not read it, for a reason that holds for the device's too.
    """
    if reason_not_to_ask(capability):
        return []
    verdict = ask(file, capability)
    if verdict.accepted:
        return []
    known = [error for error in verdict.errors if not doubt(error.op)]
    if known:
        what, hint = "NVIDIA's parser refuses the graph", "replace this operator before the export"
        raise BuildError("DS404", what, where=known[0].node or file.name, because=refusal(verdict), hint=hint)
    note = f"; {verdict.aim.note}" if verdict.aim.note else ""
    who = f"{oracle.PACKAGE} {verdict.version} does not build {file.name}"
    return [f"{who}, and the device's TensorRT may not either: {refusal(verdict)}{note}"]


def _products(plan: QuantPlan) -> list[str]:
    """The products that are planned as INT8: of the rest no kernel of its own can tell."""
    eight = [node for node in plan.nodes.values() if node.precision == "int8" and node.head is None]
    return [node.name for node in eight if node.op_type in PRODUCTS]


def _workspace(target: Target) -> int | None:
    """A quarter of the memory that the GPU shares with the system, in MiB; all that it has where it has its own."""
    own = target.accelerator.memory_mb if target.accelerator else None
    return None if own or target.memory_mb is None else target.memory_mb // 4
