"""Terminal views of a graph: what it is made of, what a runtime says to it, and what the plan makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from dsedge.backends.base import Finding
from dsedge.inspect import ArtifactInspection, Inspection
from dsedge.quant.plan import QuantPlan
from dsedge.report.summary import element
from dsedge.report.terminal import cell, facts, table
from dsedge.report.text import size


def inspection(found: Inspection) -> RenderableType:
    """What `dsedge inspect` prints."""
    total = sum(p.bytes for p in found.parameters.values())
    rows: list[tuple[str, object]] = [
        ("model", found.name),
        ("source", found.source),
        ("sha256", found.fingerprint),
        ("producer", found.producer),
        *(("opset", f"{domain} {version}") for domain, version in found.opsets.items()),
        *(("input", spec) for spec in found.inputs),
        *(("output", spec) for spec in found.outputs),
        ("nodes", f"{found.nodes:,}"),
        ("MACs", f"{found.macs:,}"),
        ("parameters", f"{sum(p.count for p in found.parameters.values()):,} ({size(total)})"),
        *(("", f"{dtype}: {p.count:,} ({size(p.bytes)})") for dtype, p in found.parameters.items()),
    ]
    operators = table(
        ("operator", "nodes#", "MACs#"),
        (
            (op, f"{count:,}", f"{found.macs_by_operator[op]:,}" if op in found.macs_by_operator else "")
            for op, count in found.operators.items()
        ),
    )
    return Group(facts(rows), operators, *(cell(f"note: {note}", "yellow") for note in found.notes))


def artifact_inspection(found: ArtifactInspection) -> RenderableType:
    """What `dsedge inspect` prints of an artifact that is no ONNX file."""
    rows: list[tuple[str, object]] = [
        ("model", found.name),
        ("source", found.source),
        ("sha256", found.fingerprint),
        ("runtime", found.runtime),
        ("precision", found.precision),
        *(("input", _interface(spec)) for spec in found.inputs),
        *(("output", _interface(spec)) for spec in found.outputs),
        ("nodes", f"{found.nodes:,}"),
        ("size", size(found.bytes)),
    ]
    listed = [(op, precision, count) for op, of in found.operators.items() for precision, count in of.items()]
    operators = table(("operator", "precision", "nodes#"), ((op, kind, f"{count:,}") for op, kind, count in listed))
    return Group(facts(rows), operators)


def _interface(spec: Mapping[str, Any]) -> str:
    shape = "" if spec.get("shape") is None else f", {list(spec['shape'])}"
    layout = f" {spec['layout']}" if spec.get("layout") else ""
    return f"{spec.get('name')}: {element(spec)}{shape}{layout}"


def findings(
    found: Mapping[str, Sequence[Finding]], missing: Mapping[str, str], deferred: Mapping[str, str]
) -> RenderableType:
    """The nodes that each runtime cannot run, all at once, and why other runtimes were not asked.

    Args:
        found: runtime -> nodes that it cannot run.
        missing: runtime -> why it was not asked.
        deferred: runtime -> what is done on the device, and what is not; see `dsedge.report.doctor.on_device`.
    """
    verdicts = [
        (name, f"{len(problems)} unsupported" if problems else "runs every operator")
        for name, problems in found.items()
    ]
    verdicts += [*deferred.items(), *missing.items()]
    rows = [(name, f.node, f.op, f.reason) for name, problems in found.items() for f in problems]
    if not rows:
        return facts(verdicts)
    return Group(facts(verdicts), table(("runtime", "node", "operator", "reason"), rows))


def plan_preview(plan: QuantPlan, runtimes: Sequence[str]) -> RenderableType:
    """What would run in which precision, one row for each operator, precision and reason.

    Args:
        plan: of one runtime.
        runtimes: that can run the model, of which `compile` may ship another.
    """
    counts = Counter(
        (n.op_type, n.precision, "fused into the operator before it" if n.head else n.reason)
        for n in plan.nodes.values()
    )
    rows = ((op, f"{count:,}", precision, reason) for (op, precision, reason), count in sorted(counts.items()))
    others = ", ".join(name for name in runtimes if name != plan.contract.partition("/")[0])
    return Group(
        cell(f"plan for {plan.contract}, before its audit", "bold"),
        table(("operator", "nodes#", "precision", "because"), rows),
        *([cell(f"compile may ship another runtime's artifact ({others}), whose plan differs")] if others else []),
    )
