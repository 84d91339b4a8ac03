"""Audit: compile the artifact, and read back the precision in which the plugin computes each operator.

The plugin fuses operators; each that it executes lists those that it is made of. What is INT8 or bfloat16 is decided by
the CPU that compiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsedge.backends.base import Artifact, Audit
from dsedge.bench.runner import compile_openvino
from dsedge.errors import VerifyError
from dsedge.quant.plan import NodePlan, QuantPlan
from dsedge.session import first_line
from dsedge.target import Target

_RUNS_IN = {"int8": ("u8", "i8"), "bf16": ("bf16",)}
"""A plan's precision -> the plugin's."""


@dataclass(frozen=True)
class Executed:
    """An operator that the plugin executes.

    Attributes:
        kind: "Convolution", "FullyConnected", "Subgraph"...
        precision: of its inputs: "u8", "i8", "f32", "bf16"... What the plugin calls "f16" here has weights that are
            stored so, and computes in float32.
        names: of the operators that it is made of, between commas.
    """

    kind: str
    precision: str
    names: str

    def holds(self, node: NodePlan) -> bool:
        """Whether it computes a node, or the main part of it."""
        known = (name for name in (node.name, node.result) if name)
        return any(f",{name}," in self.names or f",{name}/WithoutBiases," in self.names for name in known)


def executed(path: Path) -> list[Executed]:
    """What the plugin executes on this machine, in its order; constants, inputs and outputs too.

    Raises:
        VerifyError: DS502 when the plugin refuses it.
    """
    try:
        compiled = compile_openvino(path, 1)
    except RuntimeError as error:
        raise VerifyError("DS502", "OpenVINO refuses the model", because=first_line(error)) from error
    found = []
    for op in compiled.get_runtime_model().get_ordered_ops():
        precision = _precision(op)
        names = _said(op, "originalLayersNames")
        found.append(Executed(_said(op, "layerType"), "f32" if precision == "f16" else precision, f",{names},"))
    return found


def _precision(op: Any) -> str:
    """What an operator computes in: of a Subgraph the plugin gives the type of one of its inputs, a mask perhaps."""
    own = _said(op, "runtimePrecision")
    if _said(op, "layerType") != "Subgraph":
        return own
    reads = [port.get_source_output().get_node() for port in op.inputs()]
    if any(_said(read, "layerType") == "Const" and _said(read, "outputPrecisions") == "i8" for read in reads):
        return "i8"  # weights of products that it holds
    numbers = [
        _said(read, "outputPrecisions").partition(",")[0]
        for read in reads
        if _said(read, "layerType") != "Const" and _said(read, "runtimePrecision") != "boolean"
    ]
    return numbers[0] if own == "u8" and numbers and "u8" not in numbers else own


def _said(op: Any, key: str) -> str:
    return str(op.get_rt_info()[key].astype(str))


def audit(artifact: Artifact, plan: QuantPlan, target: Target) -> Audit:
    """Find what runs in INT8 or, where that was asked for, in bfloat16.

    Args:
        artifact: from `build`.
        plan: what was asked for.
        target: where this machine does not have its instruction set, nothing is found out here.

    Returns:
        The counts, and every node that was planned so and runs in float32.
    """
    asked = "bf16" if any(n.precision == "bf16" for n in plan.nodes.values()) else "int8"
    name, runs_in = asked.upper(), _RUNS_IN[asked]
    planned = [n for n in plan.nodes.values() if n.precision == asked]
    floats = sum(n.precision in ("float", "fp16") for n in plan.nodes.values())
    matches, why = target.matches_host()
    if not matches:
        eight, brain = _by_kind(asked, len(planned))
        return Audit(False, f"not audited here: {why}", eight, floats, {}, bf16_ops=brain)
    operators = executed(artifact.main)
    unmatched, lowered = {}, {}
    for node in planned:
        held = [operator for operator in operators if node.head is None and operator.holds(node)]
        if node.head is None and not any(operator.precision in runs_in for operator in held or operators):
            kind = f"it in {held[0].precision}, as {held[0].kind}" if held else f"nothing in {name}"
            unmatched[node.name] = f"OpenVINO computes {kind}"
        if held:
            lowered[node.name] = ", ".join(f"{operator.kind} {operator.precision}" for operator in held)
    lost = [n for n in planned if n.name in unmatched or n.head in unmatched]
    summary = f"operators in {name}: {len(planned) - len(lost)}"
    if unmatched:
        summary += f"; {len(unmatched)} planned in {name} run in float"
    halved = sum(n.precision == "fp16" for n in plan.nodes.values())
    if halved and planned:
        summary += f"; {halved} planned in float16 are stored in float32: its files are halved as a whole or not at all"
    heavy = [o for o in operators if o.kind in ("Convolution", "Deconvolution", "FullyConnected", "MatMul")]
    summary += f"; of {len(heavy)} executed convolutions and matrix products "
    summary += f"{sum(o.precision in runs_in for o in heavy)} are {name}"
    eight, brain = _by_kind(asked, len(planned) - len(lost))
    return Audit(True, summary, eight, floats + len(lost), unmatched, lowered=lowered, bf16_ops=brain)


def _by_kind(asked: str, count: int) -> tuple[int, int]:
    """How many operators run in INT8, and how many in bfloat16: it is never both."""
    return (0, count) if asked == "bf16" else (count, 0)
