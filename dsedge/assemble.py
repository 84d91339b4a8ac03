"""Assemble: the chosen artifact and its evidence, written into the bundle's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from dsedge import __version__
from dsedge.backends.base import Backend
from dsedge.bundle import (
    SCHEMA,
    CalibrationInfo,
    Island,
    Manifest,
    ModelInfo,
    Precision,
    RuntimeInfo,
    TargetInfo,
    describe,
    write_manifest,
)
from dsedge.candidate import Baseline, Candidate, precision
from dsedge.data import Data
from dsedge.layout import Layout
from dsedge.model import Model, TensorSpec
from dsedge.quant.interface import MOVES, to_json
from dsedge.quant.plan import QParams
from dsedge.quant.precision import INT8, Request
from dsedge.report.html import render
from dsedge.steps import Steps
from dsedge.target import Target
from dsedge.verify import golden_count, write_golden


def assemble(
    folder: Path,
    model: Model,
    layout: Layout,
    target: Target,
    backend: Backend,
    calibration: Data | None,
    method: str,
    base: Baseline,
    chosen: Candidate,
    steps: Steps,
    notes: list[str],
    request: Request = INT8,
) -> None:
    """Move the chosen artifact into place, write everything beside it, and the manifest last.

    Args:
        folder: of the workspace; what other candidates left in it is removed.
        model: normalized, with the artifact's interface.
        layout: of its inputs and outputs.
        target: the board.
        backend: of the chosen artifact.
        calibration: where the ranges come from; None for those that the model brought.
        method: how they were chosen.
        base: the float artifact.
        chosen: the candidate to ship.
        steps: the record.
        notes: what a reader must know, beside the candidate's own notes.
        request: which precision was asked for.
    """
    float_bytes = base.artifact.bytes
    for file in chosen.artifact.files:
        shutil.move(file, folder / file.name)
    for leftover in [p for p in folder.iterdir() if p.is_dir()]:
        shutil.rmtree(leftover)
    write_golden(
        folder / "golden.npz",
        model,
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
    roles = {file.name: "model" for file in chosen.artifact.files}
    roles |= {"golden.npz": "golden", "run.py": "runner", "plan.json": "plan"}
    if calibration and calibration.source == "random":
        notes = ["the ranges come from random noise: accuracy on real data is unknown", *notes]
    manifest = Manifest(
        schema=SCHEMA,
        dsedge=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status="verified",
        model=_model_info(model, layout, chosen.codes),
        target=TargetInfo(name=target.asked_as or target.name, board=target.name),
        runtime=RuntimeInfo(
            name=backend.NAME, version=backend.version() or "", variant=backend.contract(target).variant
        ),
        files=describe(folder, roles),
        float_bytes=float_bytes,
        calibration=CalibrationInfo(
            source=Path(calibration.source).name, samples=chosen.samples, method=method, sha256=calibration.sha256()
        )
        if calibration
        else None,
        precision=_precision(chosen, request),
        metrics=[chosen.metric] if chosen.metric else [],
        fidelity=chosen.fidelity,
        latency=chosen.latency,
        gates=chosen.gates,
        passes=steps.records,
        notes=[*notes, *chosen.notes],
    )
    (folder / "report.html").write_text(render(manifest, plan), encoding="utf-8")
    files = [*manifest.files, *describe(folder, {"report.html": "report"})]
    write_manifest(folder, manifest.model_copy(update={"files": files}))


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


def _precision(chosen: Candidate, request: Request) -> Precision:
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
        float_ops=float_ops,
        total_ops=chosen.audit.int8_ops + chosen.audit.int4_ops + float_ops,
        islands=islands,
        audited=chosen.audit.performed,
        audit=chosen.audit.summary,
    )
