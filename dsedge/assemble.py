"""Assemble: the chosen artifact and its evidence, written into the bundle's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from dsedge import __version__
from dsedge.backends.base import Backend, Finished, is_deferred
from dsedge.bundle import (
    SCHEMA,
    CalibrationInfo,
    CandidateInfo,
    CostInfo,
    Island,
    Manifest,
    ModelInfo,
    Precision,
    Role,
    RuntimeInfo,
    Status,
    TargetInfo,
    describe,
    write_manifest,
)
from dsedge.candidate import Candidate, precision
from dsedge.data.variety import sameness
from dsedge.layout import Layout
from dsedge.model import Model, TensorSpec
from dsedge.portfolio import Entry, Job
from dsedge.quant.interface import MOVES, to_json
from dsedge.quant.plan import QParams
from dsedge.quant.precision import Request
from dsedge.report.html import render
from dsedge.steps import Steps
from dsedge.target import host_isa
from dsedge.verify import FIDELITY_SAMPLES, golden_count, write_golden


def assemble(
    folder: Path,
    job: Job,
    entry: Entry,
    chosen: Candidate,
    candidates: list[CandidateInfo],
    costs: list[CostInfo],
    steps: Steps,
    notes: list[str],
    done: Finished | None,
) -> None:
    """Move the chosen artifact into place, write everything beside it, and the manifest last.

    Args:
        folder: of the workspace; what other candidates left in it is removed.
        job: what was asked for.
        entry: what the chosen runtime made of the model.
        chosen: the candidate to ship.
        candidates: the table of all.
        costs: the operators of the chosen one that cost the most.
        steps: the record.
        notes: what a reader must know, beside the entry's and the candidate's own notes.
        done: what a deferred backend wrote beside the artifact.
    """
    backend, base, target = entry.backend, entry.base, job.target
    float_bytes = base.artifact.bytes
    beside = dict(done.roles) if done else {}
    for file in {*chosen.artifact.files, *(chosen.artifact.main.parent / name for name in beside)}:
        shutil.move(file, folder / file.name)
    for leftover in [p for p in folder.iterdir() if p.is_dir()]:
        shutil.rmtree(leftover)
    write_golden(
        folder / "golden.npz",
        entry.model,
        base.samples,
        base.outputs,
        chosen.outputs,
        golden_count(base.samples, base.outputs, chosen.outputs),
    )
    shutil.copyfile(backend.RUNNER, folder / "run.py")
    plan = chosen.plan.to_json()
    gone = _gone(chosen)
    plan["nodes"] = [node for node in plan["nodes"] if node["name"] not in gone]
    for node in plan["nodes"]:
        nothing = "nothing" if chosen.audit.lowered and node["op"] in MOVES else None
        node["lowered"] = chosen.audit.lowered.get(node["name"], nothing)
    (folder / "plan.json").write_text(json.dumps(plan, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    roles: dict[str, Role] = {file.name: "model" for file in chosen.artifact.files}
    roles.update({"golden.npz": "golden", "run.py": "runner", "plan.json": "plan"}, **beside)
    ranges = job.request.calibrates and not job.given and not entry.is_alternative(chosen)
    calibration = entry.data if chosen.samples or ranges else None
    if job.io_dtype != "float" and precision(chosen.plan) == "float32":
        notes = [*notes, f"inputs and outputs are float, not {job.io_dtype}: so is the artifact"]
    used = entry.data if chosen.samples else None
    if used and used.source == "random":
        notes = ["the ranges come from random noise: accuracy on real data is unknown", *notes]
    if base.source == "random" and used is None:
        notes = [*notes, "fidelity and golden samples are random noise, not real data"]
    if used and (why := sameness(used.head(FIDELITY_SAMPLES))):
        notes = [*notes, f"{why}: the ranges say little about real data"]
    matches, why_not = target.matches_host()
    # Of one architecture without the other's INT8 instructions the kernels differ in what they saturate; an
    # accelerator has kernels of its own.
    same = host_isa()[0] == target.architecture or target.accelerator is not None
    if same and not matches and any(row.bytes and row.precision != "float32" for row in candidates):
        notes = [*notes, f"accuracy and SQNR come from this machine's kernels, not from the board's: {why_not}"]
    manifest = Manifest(
        schema=SCHEMA,
        dsedge=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status=_status(backend, chosen),
        model=_model_info(entry.model, entry.layout, chosen.codes),
        target=TargetInfo(name=target.asked_as or target.name, board=target.name),
        runtime=RuntimeInfo(
            name=backend.NAME, version=backend.version() or "", variant=backend.contract(target).variant
        ),
        files=describe(folder, roles),
        float_bytes=float_bytes,
        calibration=CalibrationInfo(
            source=Path(calibration.source).name,
            samples=chosen.samples,
            method=job.method,
            sha256=calibration.sha256(),
        )
        if calibration
        else None,
        precision=_precision(chosen, job.request, computes_half=backend.contract(target).computes_half),
        metrics=[chosen.metric] if chosen.metric else [],
        fidelity=chosen.fidelity.model_copy(update={"source": base.source}),
        latency=chosen.latency,
        candidates=candidates,
        costs=costs,
        gates=chosen.gates,
        passes=steps.records,
        notes=[*notes, *entry.notes, *chosen.notes, *(done.notes if done else [])],
    )
    (folder / "report.html").write_text(render(manifest, plan), encoding="utf-8")
    files = [*manifest.files, *describe(folder, {"report.html": "report"})]
    write_manifest(folder, manifest.model_copy(update={"files": files}))


def _status(backend: Backend, chosen: Candidate) -> Status:
    if not is_deferred(backend):
        return "verified"
    return "checked" if chosen.audit.performed and precision(chosen.plan) != "float32" else "deferred"


def _model_info(model: Model, layout: Layout, codes: Mapping[str, QParams]) -> ModelInfo:
    def plain(spec: TensorSpec) -> dict[str, object]:
        shape = None if spec.shape is None else list(spec.shape)
        found = {"name": spec.name, "dtype": spec.dtype, "shape": shape, "layout": layout.letters.get(spec.name)}
        return {**found, **to_json(codes, spec.name)}

    return ModelInfo(
        name=model.name,
        fingerprint=model.fingerprint,
        opset=model.opset,
        source=Path(model.source).name,
        source_opset=model.source_opset,
        inputs=[plain(spec) for spec in model.inputs],
        outputs=[plain(spec) for spec in model.outputs],
    )


def _gone(chosen: Candidate) -> set[str]:
    """Nodes in float that are no operator of the artifact: they only say where numbers lie, as `--io-layout` does."""
    lowered = chosen.audit.lowered
    floats = [n for n in chosen.plan.nodes.values() if n.precision == "float" and n.op_type in MOVES]
    return {n.name for n in floats if lowered and n.name not in lowered}


def _precision(chosen: Candidate, request: Request, *, computes_half: bool) -> Precision:
    unmatched, gone = chosen.audit.unmatched, _gone(chosen)
    floats = [n for n in chosen.plan.nodes.values() if n.precision in ("float", "fp16") or n.name in unmatched]
    islands = [
        Island(node=n.name, op=n.op_type, reason=unmatched.get(n.name, n.reason)) for n in floats if n.name not in gone
    ]
    float_ops = chosen.audit.float_ops - len(gone)
    return Precision(
        precision=precision(chosen.plan),
        asked=str(request),
        int8_ops=chosen.audit.int8_ops,
        int4_ops=chosen.audit.int4_ops,
        bf16_ops=chosen.audit.bf16_ops,
        float_ops=float_ops,
        fp16_ops=sum(n.precision == "fp16" for n in chosen.plan.nodes.values()),
        fp16_computed=computes_half,
        total_ops=chosen.audit.int8_ops + chosen.audit.int4_ops + chosen.audit.bf16_ops + float_ops,
        islands=islands,
        audited=chosen.audit.performed,
        audit=chosen.audit.summary,
    )
