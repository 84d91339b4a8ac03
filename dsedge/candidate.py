"""Candidates: a Q/DQ graph and the artifact made of it, tried until one passes the gates.

A try that the fusion audit or the accuracy gate rejects says which nodes are to blame. They go back to float, each with
the reason, and the next try begins at `annotate`. The number of tries is bounded; when none passes, the float artifact
is the result, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from dsedge import cache, gates
from dsedge.accuracy import Judge
from dsedge.backends.base import Artifact, Audit, Backend, Predict
from dsedge.bench.measure import measure
from dsedge.bundle import Fidelity, Gate, Latency, Metric
from dsedge.data import Batch, Data
from dsedge.errors import VerifyError
from dsedge.model import Model, graph_digest
from dsedge.quant.annotate import annotate
from dsedge.quant.bias_correction import correct_biases
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.contract import Contract
from dsedge.quant.insert import insert
from dsedge.quant.observers import BINNED, BINS, Method, Observer
from dsedge.quant.plan import QuantPlan
from dsedge.sensitivity import rank
from dsedge.steps import Steps
from dsedge.target import Target
from dsedge.verify import (
    GOLDEN_SAMPLES,
    Outputs,
    compare_floats,
    fidelity,
    golden_count,
    open_artifact,
    predictor,
    run_all,
)

DEFAULT_METHOD: Method = "mse"
TRIES = 6
FEW_SAMPLES, REFINE_SAMPLES = 32, 8
POOR_DB = 15.0
"""Below it, noise is a sixth of the signal: without evaluation data a bundle warns."""
DYNAMIC_MARGIN_DB = 20.0
"""The Q/DQ graph does not hold the rounding of activations that a runtime quantizes as they come."""
THREADS = 1
"""Threads of latency measurements: one core gives figures that repeat."""


@dataclass(frozen=True)
class Baseline:
    """The float model on the same runtime, which every claim is a ratio to.

    Attributes:
        artifact: the float artifact.
        samples: real samples for verification.
        outputs: what it gives for them.
        value: its metric and the number of samples, None when nothing judges.
    """

    artifact: Artifact
    samples: list[Batch]
    outputs: Outputs
    value: tuple[float, int | None] | None


@dataclass(frozen=True)
class Candidate:
    """An artifact with its evidence.

    Attributes:
        plan: what is quantized; every node float for the float artifact.
        artifact: its files.
        audit: what the runtime made of it.
        fidelity: against the float model.
        outputs: for the baseline's samples.
        metric: against the float model, None when nothing judges.
        latency: float first, then quantized; empty when not measured.
        gates: all of them.
        samples: how many samples the ranges come from.
        notes: what a reader must know.
    """

    plan: QuantPlan
    artifact: Artifact
    audit: Audit
    fidelity: Fidelity
    outputs: Outputs
    metric: Metric | None
    latency: list[Latency]
    gates: list[Gate]
    samples: int
    notes: list[str]


@dataclass
class Statistics:
    """What calibration has seen so far.

    Attributes:
        observers: value name -> its statistics.
        samples: how many samples they come from.
    """

    observers: dict[str, Observer] = field(default_factory=dict)
    samples: int = 0


def baseline(model: Model, backend: Backend, folder: Path, samples: list[Batch], judge: Judge | None) -> Baseline:
    """Build and judge the float artifact, in the folder `float` of the workspace.

    Raises:
        VerifyError: DS501 when it does not compute what the graph does on the reference executor.
    """
    where = folder / "float"
    where.mkdir()
    artifact = backend.build(model.graph, where)
    predict = open_artifact(backend, artifact.main)
    outputs = run_all(predict, samples)
    graph_outputs = run_all(predictor(model.graph), samples[:GOLDEN_SAMPLES])
    _, complaint = compare_floats(model.outputs, graph_outputs, outputs[:GOLDEN_SAMPLES])
    if complaint:
        raise VerifyError(
            "DS501", f"the float artifact: {complaint}", because=f"{backend.NAME} computes something else"
        )
    return Baseline(artifact, samples, outputs, judge.measured(predict) if judge else None)


def search(
    model: Model,
    base: Baseline,
    backend: Backend,
    target: Target,
    data: Data,
    method: Method,
    judge: Judge | None,
    folder: Path,
    steps: Steps,
) -> Candidate:
    """The first candidate that passes the audit and the gates, or the float one.

    Args:
        model: normalized.
        base: the float artifact.
        backend: builds and audits.
        target: the board.
        data: calibration samples.
        method: how ranges are chosen.
        judge: judges accuracy.
        folder: of the workspace; artifacts go below it.
        steps: the record.
    """
    contract = backend.contract(target)
    graph = model.graph.graph
    lifted: dict[str, str] = {}
    statistics = Statistics()
    notes: list[str] = []
    rejected: Candidate | None = None

    def quantized(plan: QuantPlan) -> tuple[QuantPlan, ir.Model]:
        _observe(statistics, model, plan, data, method, steps)
        plan = assign_ranges(plan, graph, contract, statistics.observers, method)
        return plan, insert(correct_biases(model.graph, plan, contract, statistics.observers), plan, contract)

    for attempt in range(TRIES):
        with steps("annotate"):
            plan = annotate(graph, contract, lifted=lifted)
        if not plan.quantized:
            break
        with steps("calibrate") as calibrate_notes:
            calibrate_notes += _observe(statistics, model, plan, data, method, steps)
        with steps("quantize", changed=True):
            plan, qdq = quantized(plan)
        with steps("build"):
            where = folder / f"try{attempt}"
            where.mkdir()
            artifact = backend.build(qdq, where)
        with steps("audit"):
            audit = backend.audit(artifact, plan, target)
        if audit.unmatched:
            lifted.update(audit.unmatched)
            notes += [f"{node} was returned to float: {why}" for node, why in audit.unmatched.items()]
            continue
        with steps("verify"):
            found = _verified(plan, artifact, qdq, audit, base, backend, judge, statistics.samples)
        if found.metric and judge and judge.max_drop is not None:
            gate = gates.accuracy_gate(found.metric, judge.max_drop)
            found = replace(found, gates=[gate])
            if not gate.passed:
                rejected = found
                if attempt + 1 == TRIES:
                    break
                with steps("refine", changed=True):
                    ranked = rank(
                        [node.name for node in plan.nodes.values() if node.weights],
                        lambda name: quantized(annotate(graph, contract, lifted={**lifted, name: "measured"}))[1],
                        model.graph,
                        data.head(REFINE_SAMPLES),
                        progress=lambda done, total: steps.tell("refine", done, total),
                    )
                reason = f"lifted to float by the accuracy gate ({gate.name} {gate.value:.3g} > {gate.limit:.3g})"
                lifted.update(dict.fromkeys(ranked[: 2**attempt], reason))
                notes += [f"{node} was {reason}" for node in ranked[: 2**attempt]]
                continue
        with steps("measure"):
            found = replace(_measured(found, base, backend, target), notes=notes)
        near = found.fidelity.sqnr_db
        if judge is None and near is not None and near < POOR_DB:
            hint = "and nothing judges accuracy: give --eval"
            notes.append(f"outputs are only {near:.1f} dB from the float model's, {hint}")
        if any(gate.name == gates.LATENCY_VS_FLOAT and gate.passed is False for gate in found.gates):
            rejected = found
            break
        return found
    return _float_candidate(graph, base, contract, judge, rejected, lifted, statistics.samples, notes)


def _observe(
    statistics: Statistics, model: Model, plan: QuantPlan, data: Data, method: Method, steps: Steps
) -> list[str]:
    """Observe the plan's values that have no statistics yet: over all samples first, later over a few."""
    observers, constants = statistics.observers, model.graph.graph.initializers
    missing = [name for name in plan.values if name not in observers and name not in constants]
    if not missing:
        return []
    if observers:  # a node that was lifted has uncovered values, and an iterable cannot be read a second time
        observers |= calibrate(model.graph, missing, data.head(FEW_SAMPLES), method)[0]
        return []
    digest = data.sha256()
    name = cache.key(
        "calibrate",
        model=graph_digest(model.graph),
        values=sorted(missing),
        data=digest,
        histogram=method != "minmax" and (BINS, BINNED),
    )
    if digest is not None and data.samples is not None and (arrays := cache.load(name)) is not None:
        observers |= Observer.unpack(arrays)
        statistics.samples = data.samples
        return ["statistics were taken from the cache"]
    found, statistics.samples = calibrate(
        model.graph,
        missing,
        data.batches(),
        method,
        progress=lambda done: steps.tell("calibrate", done, data.samples),
    )
    observers |= found
    if digest is not None:
        cache.store(name, Observer.pack(found))
    return []


def _verified(
    plan: QuantPlan,
    artifact: Artifact,
    qdq: ir.Model,
    audit: Audit,
    base: Baseline,
    backend: Backend,
    judge: Judge | None,
    samples: int,
) -> Candidate:
    predict = open_artifact(backend, artifact.main)
    got = run_all(predict, base.samples)
    golden = golden_count(base.samples, base.outputs, got)
    simulated = run_all(predictor(qdq, optimize=False), base.samples[:golden])
    dynamic = any(node.precision == "int8_dynamic" for node in plan.nodes.values())
    margin = DYNAMIC_MARGIN_DB if dynamic else 3.0
    near = fidelity(base.samples, base.outputs, simulated, got, margin_db=margin)
    metric = judge.compare(base.value[0], predict) if judge and base.value else None
    return Candidate(plan, artifact, audit, near, got, metric, [], [], samples, [])


def _measured(found: Candidate, base: Baseline, backend: Backend, target: Target) -> Candidate:
    matches, why = target.matches_host()
    rows: list[Latency] = []
    if matches:
        runs: dict[str, Predict] = {
            "float32": open_artifact(backend, base.artifact.main, THREADS),
            precision(found.plan): open_artifact(backend, found.artifact.main, THREADS),
        }
        rows = measure(runs, base.samples[0].feeds, f"{backend.NAME} {backend.version()}", THREADS)
    judged = [
        *found.gates,
        *gates.latency_gates(rows, target.budgets, "" if matches else f"not measured here: {why}"),
        *gates.size_gates(base.artifact.bytes, found.artifact.bytes, target.budgets),
    ]
    return replace(found, latency=rows, gates=judged)


def precision(plan: QuantPlan) -> Literal["int8", "int8_dynamic", "float32"]:
    """The precision of an artifact as a whole: static INT8 where any node is."""
    kinds = {node.precision for node in plan.nodes.values()}
    return "int8" if "int8" in kinds else "int8_dynamic" if "int8_dynamic" in kinds else "float32"


def _float_candidate(
    graph: ir.Graph,
    base: Baseline,
    contract: Contract,
    judge: Judge | None,
    rejected: Candidate | None,
    lifted: Mapping[str, str],
    samples: int,
    notes: list[str],
) -> Candidate:
    """The float artifact, with the gates and the latency of the INT8 one that was rejected last."""
    if rejected is None:
        failed = [Gate(name="int8", limit=1, value=0, passed=False, note="nothing in the model runs in INT8")]
        notes = [*notes, "nothing in the model can run in INT8 on this runtime: this is the float artifact"]
        shipped = {node.name or "": "no INT8 artifact was found, so the float one was shipped" for node in graph}
        kept = annotate(graph, contract, lifted=lifted)
        kept = annotate(graph, contract, lifted=shipped | dict(lifted)) if kept.quantized else kept
    else:
        failed = rejected.gates
        names = ", ".join(gate.name for gate in failed if gate.passed is False)
        notes = [*notes, f"no INT8 artifact passed its gates ({names}): this is the float one"]
        reason = f"the INT8 artifact failed a gate ({names}), so the float one was shipped"
        kept = annotate(graph, contract, lifted={node.name or "": reason for node in graph})
    floats = sum(node.precision == "float" for node in kept.nodes.values())
    golden = golden_count(base.samples, base.outputs, base.outputs)
    near = fidelity(base.samples, base.outputs, base.outputs[:golden], base.outputs)
    audit = Audit(True, "the float artifact: nothing to audit", 0, floats, {})
    metric = None
    if judge and base.value:
        value, count = base.value
        metric = Metric(name=judge.name, float=value, quantized=value, drop=0.0, samples=count)
    latency = rejected.latency if rejected else []
    return Candidate(kept, base.artifact, audit, near, base.outputs, metric, latency, failed, samples, notes)
