"""Given: the candidate of a model that came with Q/DQ pairs of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dsedge import gates
from dsedge.accuracy import Judge
from dsedge.backends.base import Backend
from dsedge.bundle import Gate
from dsedge.candidate import Baseline, Tried, verified
from dsedge.errors import LoadError
from dsedge.model import Model
from dsedge.quant.existing import is_qdq, read_plan
from dsedge.quant.interface import IoDtype, with_codes
from dsedge.quant.precision import INT8, Request
from dsedge.steps import Steps
from dsedge.strict import require_int8
from dsedge.target import Target


def is_given(model: Model, request: Request) -> bool:
    """Whether a model has Q/DQ pairs of its own.

    Raises:
        LoadError: DS145 when it has, and another precision than theirs was asked for.
    """
    given = is_qdq(model.graph)
    if given and request != INT8:
        what = f"--precision {request} does not fit a model that has Q/DQ pairs of its own"
        raise LoadError("DS145", what, where=model.source, hint="compile the float model that it was made from")
    return given


def accept(
    model: Model,
    base: Baseline,
    backend: Backend,
    target: Target,
    judge: Judge | None,
    folder: Path,
    steps: Steps,
    *,
    io_dtype: IoDtype = "float",
    strict: bool = False,
) -> Tried:
    """The candidate of a model that came with Q/DQ pairs: its own graph.

    Args:
        model: normalized, with its pairs.
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
    if audit.performed and not audit.int8_ops and not audit.int4_ops:
        note = f"nothing of it runs in INT8 on {backend.NAME}"
        accuracy.append(Gate(name="int8", limit=1, value=0, passed=False, note=note))
    return Tried(replace(found, gates=accuracy, notes=notes), {}, 0, notes, tries=1)
