"""Given: the candidate of a model that came with Q/DQ pairs of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dsedge import gates
from dsedge.accuracy import Judge
from dsedge.backends.base import Backend
from dsedge.candidate import Baseline, Candidate, float_candidate, measured, verified
from dsedge.model import Model
from dsedge.quant.existing import read_plan
from dsedge.quant.interface import IoDtype, with_codes
from dsedge.quant.precision import INT8
from dsedge.steps import Steps
from dsedge.strict import require_int8
from dsedge.target import Target


def accept(
    model: Model,
    floats: Model,
    base: Baseline,
    backend: Backend,
    target: Target,
    judge: Judge | None,
    folder: Path,
    steps: Steps,
    *,
    io_dtype: IoDtype = "float",
    strict: bool = False,
) -> Candidate:
    """The candidate of a model that came with Q/DQ pairs: its own graph, or the float one when a gate fails.

    Args:
        model: normalized, with its pairs.
        floats: the same without them.
        base: the float artifact.
        backend: builds and audits.
        target: the board.
        judge: judges accuracy.
        folder: of the workspace; the artifact goes below it.
        steps: the record.
        io_dtype: which type of inputs and outputs the artifact has.
        strict: refuse a plan in which an operator computes on real numbers.

    Raises:
        CheckError: DS202 when `strict` and an operator would compute on real numbers.
    """
    contract = backend.contract(target)
    with steps("annotate"):
        plan = read_plan(model.graph.graph, contract)
        if strict:
            require_int8(plan)
    with steps("build"):
        where = folder / "given"
        where.mkdir()
        written, codes, said = with_codes(model.graph, io_dtype, model.states)
        artifact = backend.build(written, where)
    with steps("audit"):
        audit = backend.audit(artifact, plan, target)
    notes = ["the model came quantized: scales and placement are its own"]
    notes += [f"{node} has Q/DQ pairs and runs in float here: {why}" for node, why in audit.unmatched.items()]
    notes += said
    with steps("verify"):
        found = verified(plan, artifact, model.graph, audit, base, backend, judge, 0, codes)
    limit = judge.max_drop if judge else None
    accuracy = [gates.accuracy_gate(found.metric, limit)] if found.metric and limit is not None else []
    with steps("measure"):
        found = replace(measured(replace(found, gates=accuracy), base, backend, target), notes=notes)
    decisive = {gates.LATENCY_VS_FLOAT, *(gate.name for gate in accuracy)}
    if any(gate.name in decisive and gate.passed is False for gate in found.gates):
        return float_candidate(floats.graph.graph, base, contract, target, judge, found, {}, 0, notes, INT8, 1)
    return found
