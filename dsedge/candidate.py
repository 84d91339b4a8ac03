"""Candidates: an artifact and its evidence, beside the float artifact that every claim is a ratio to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from dsedge import gates
from dsedge.accuracy import Judge
from dsedge.backends.base import Artifact, Audit, Backend
from dsedge.bundle import Fidelity, Gate, Latency, Metric, Whole
from dsedge.data import Batch, Data
from dsedge.differ import first_difference
from dsedge.errors import VerifyError
from dsedge.model import Model
from dsedge.quant.contract import Contract
from dsedge.quant.interface import output_scales
from dsedge.quant.plan import QParams, QuantPlan
from dsedge.quant.precision import Request, annotate_as_asked
from dsedge.session import INT8_KERNELS, REFERENCE
from dsedge.target import INT8_DOT_PRODUCT, Target, host_isa
from dsedge.verify import (
    FIDELITY_SAMPLES,
    GOLDEN_SAMPLES,
    Outputs,
    compare_floats,
    fidelity,
    golden_count,
    open_artifact,
    predictor,
    run_all,
    run_original,
    steps,
)

DYNAMIC_MARGIN_DB = 20.0
"""The Q/DQ graph does not hold the rounding of activations that a runtime quantizes as they come."""
_BFLOAT_MARGIN_DB = 12.0
"""The graph rounds what each node reads to bfloat16, as the artifact does: convolutional nets and encoders come within
4 dB of it. A recurrent layer rounds its state at every step besides: a GRU is 9 dB farther away (`tools/bfloat.py`)."""
_MARGINS_DB = {"int8_dynamic": DYNAMIC_MARGIN_DB, "int4": DYNAMIC_MARGIN_DB, "bf16": _BFLOAT_MARGIN_DB}
_STORED: tuple[Whole, ...] = ("int4", "fp16", "bf16")


@dataclass(frozen=True)
class Baseline:
    """The float model on the same runtime, which every claim is a ratio to.

    Attributes:
        artifact: the float artifact.
        samples: real samples for verification.
        source: where they come from; "random" is noise.
        outputs: what it gives for them.
        metric: its own, beside itself; None when nothing judges.
    """

    artifact: Artifact
    samples: list[Batch]
    source: str
    outputs: Outputs
    metric: Metric | None


@dataclass(frozen=True)
class Candidate:
    """An artifact with its evidence.

    Attributes:
        plan: what is quantized; every node float for the float artifact.
        graph: the Q/DQ graph by that plan.
        artifact: its files.
        audit: what the runtime made of it.
        fidelity: against the float model.
        outputs: for the baseline's samples.
        metric: against the float model, None when nothing judges.
        latency: float first, then that of this artifact; empty when not measured.
        gates: all of them.
        samples: how many samples the ranges come from.
        notes: what a reader must know.
        codes: name -> parameters, for inputs and outputs of the artifact that are codes.
    """

    plan: QuantPlan
    graph: ir.Model
    artifact: Artifact
    audit: Audit
    fidelity: Fidelity
    outputs: Outputs
    metric: Metric | None
    latency: list[Latency]
    gates: list[Gate]
    samples: int
    notes: list[str]
    codes: Mapping[str, QParams] = field(default_factory=dict)


@dataclass(frozen=True)
class Tried:
    """What came of quantizing a model for a runtime.

    Attributes:
        found: the artifact that passed the audit and the accuracy gate, or the last that failed the gate; None when
            nothing in the model can be quantized.
        lifted: node -> reason, for the nodes that went back to float.
        samples: how many samples the ranges come from.
        notes: what a reader must know.
        tries: how many artifacts were made.
        about: what sets it apart from the first search for that precision, "" for the first.
        blamed: how many of `lifted` the accuracy gate lifted.
    """

    found: Candidate | None
    lifted: Mapping[str, str]
    samples: int
    notes: list[str]
    tries: int
    about: str = ""
    blamed: int = 0


def baseline(model: Model, backend: Backend, folder: Path, data: Data, judge: Judge | None) -> Baseline:
    """Build and judge the float artifact, in the folder `float` of the workspace.

    Args:
        model: normalized, without Q/DQ pairs.
        backend: builds and opens it.
        folder: of the workspace.
        data: from which the samples for verification are taken.
        judge: judges accuracy.

    Raises:
        LoadError: DS122 when the model does not run on a sample.
        VerifyError: DS501 when it does not compute what the graph does on the reference executor.
    """
    samples, where = data.head(FIDELITY_SAMPLES), folder / "float"
    where.mkdir()
    artifact = backend.build(model.graph, where)
    predict = open_artifact(backend, artifact.main)
    try:
        outputs = run_all(predict, samples)
    except VerifyError:
        run_original(model, samples)  # which says so when the samples are to blame
        raise
    graph_outputs = run_all(predictor(model.graph), samples[:GOLDEN_SAMPLES])
    _, complaint = compare_floats(model.outputs, graph_outputs, outputs[:GOLDEN_SAMPLES])
    if complaint:
        found = first_difference(model.graph, backend, samples[0].feeds)
        because = f"{backend.NAME} computes something else" + (f": {found}" if found else "")
        raise VerifyError("DS501", f"the float artifact: {complaint}", because=because)
    metric = None
    if judge:
        value, count = judge.measured(predict)
        metric = Metric(name=judge.name, float=value, quantized=value, drop=0.0, samples=count)
    return Baseline(artifact, samples, Path(data.source).name, outputs, metric)


def verified(
    plan: QuantPlan,
    artifact: Artifact,
    qdq: ir.Model,
    audit: Audit,
    base: Baseline,
    backend: Backend,
    judge: Judge | None,
    samples: int,
    codes: Mapping[str, QParams] | None = None,
) -> Candidate:
    """A candidate whose artifact ran on the real runtime, judged and compared; no gate has decided yet.

    Args:
        plan: what the artifact was made by.
        artifact: from `build`.
        qdq: the Q/DQ graph that it was made of.
        audit: of the artifact.
        base: the float artifact.
        backend: opens it.
        judge: judges accuracy.
        samples: how many samples the ranges come from.
        codes: parameters of the artifact's inputs and outputs that are codes; the Q/DQ graph's own are real numbers.

    Raises:
        VerifyError: DS501 when the runtime computes something else than the graph says, DS502 when it refuses it.
    """
    predict = open_artifact(backend, artifact.main)
    got = run_all(predict, base.samples)
    golden = golden_count(base.samples, base.outputs, got)
    simulated = run_all(predictor(qdq, optimize=False), base.samples[:golden])
    margin = max((_MARGINS_DB.get(node.precision, 3.0) for node in plan.nodes.values()), default=3.0)
    near = fidelity(base.samples, base.outputs, simulated, got, margin_db=margin)
    if any(scales := output_scales(qdq.graph)):
        # Sums of products are exact in INT8 kernels that do not saturate, and in no float one. The reference's own
        # artifact is held against the graph node by node: with such kernels it would be compared with itself.
        if backend.NAME != REFERENCE and host_isa()[1] & INT8_DOT_PRODUCT:
            simulated = run_all(predictor(qdq, config=INT8_KERNELS), base.samples[:golden])
        near = near.model_copy(update={"golden_steps": steps(scales, simulated, got[:golden])})
    metric = judge.compare(base.metric.float, predict) if judge and base.metric else None
    return Candidate(plan, qdq, artifact, audit, near, got, metric, [], [], samples, [], codes or {})


def precision(plan: QuantPlan) -> Whole:
    """The precision of an artifact as a whole: static INT8 where any node is, "mixed" for INT8 beside INT4 or FP16."""
    kinds = {node.precision for node in plan.nodes.values()}
    eight: Whole | None = "int8" if "int8" in kinds else "int8_dynamic" if "int8_dynamic" in kinds else None
    found: list[Whole] = [*([eight] if eight else []), *(kind for kind in _STORED if kind in kinds)]
    return "mixed" if len(found) > 1 else found[0] if found else "float32"


def float_candidate(
    model: ir.Model,
    base: Baseline,
    contract: Contract,
    target: Target,
    tried: Tried,
    latency: list[Latency],
    request: Request,
) -> Candidate:
    """The float artifact, with the gates of the quantized one that was rejected.

    Args:
        model: the normalized float graph.
        base: the float artifact.
        contract: of its runtime.
        target: the board.
        tried: what came of quantizing it.
        latency: its own row, empty when not measured.
        request: which precision was asked for.
    """
    graph, rejected, lifted, notes = model.graph, tried.found, tried.lifted, tried.notes
    asked = request.base.upper()
    if rejected is None and request.base == "fp32":
        failed = gates.size_gates(base.artifact.bytes, base.artifact.bytes, target.budgets)
        notes = [*notes, "float32 was asked for: nothing is quantized"]
        kept = annotate_as_asked(graph, contract, request, lifted=lifted)
    elif rejected is None:
        failed = [Gate(name=request.base, limit=1, value=0, passed=False, note=f"nothing in the model runs in {asked}")]
        forbidden = f", with --precision {request}" if request.entries else ""
        reason = f"nothing in the model can run in {asked} on {contract.runtime}{forbidden}: this is the float artifact"
        notes = [*notes, reason]
        shipped = {node.name or "": f"no {asked} artifact was found, so the float one was shipped" for node in graph}
        kept = annotate_as_asked(graph, contract, request, lifted=lifted)
        if kept.quantized:
            kept = annotate_as_asked(graph, contract, request, lifted=shipped | dict(lifted))
    else:
        refused = f"of the {asked} artifact, which was refused"
        failed = [g.model_copy(update={"note": f"{refused}; {g.note}" if g.note else refused}) for g in rejected.gates]
        names = ", ".join(gate.name for gate in failed if gate.passed is False)
        made = "the one try" if tried.tries == 1 else f"none of {tried.tries} tries"
        failing = "failed a gate" if tried.tries == 1 else "passed its gates"
        notes = [*notes, f"{made} in {asked} {failing} ({names}): this is the float one"]
        reason = f"the {asked} artifact failed a gate ({names}), so the float one was shipped"
        kept = annotate_as_asked(graph, contract, request, lifted={node.name or "": reason for node in graph})
    floats = sum(node.precision == "float" for node in kept.nodes.values())
    golden = golden_count(base.samples, base.outputs, base.outputs)
    near = fidelity(base.samples, base.outputs, base.outputs[:golden], base.outputs)
    audit = Audit(True, "the float artifact: nothing to audit", 0, floats, {})
    outputs, metric, samples = base.outputs, base.metric, tried.samples
    return Candidate(kept, model, base.artifact, audit, near, outputs, metric, latency, failed, samples, notes)
