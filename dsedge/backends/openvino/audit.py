"""Audit: compile the artifact, and read back the precision in which the plugin computes each operator.

The plugin fuses operators; each that it executes lists those that it is made of. What is INT8 is decided by the CPU
that compiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dsedge.backends.base import Artifact, Audit
from dsedge.bench.runner import compile_openvino
from dsedge.quant.plan import NodePlan, QuantPlan
from dsedge.target import Target

_CODES = ("u8", "i8")


@dataclass(frozen=True)
class Executed:
    """An operator that the plugin executes.

    Attributes:
        kind: "Convolution", "FullyConnected", "Subgraph"...
        precision: of its inputs: "u8", "i8", "f32", "bf16"...
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
    """What the plugin executes on this machine, in its order; constants, inputs and outputs too."""
    found = []
    for op in compile_openvino(path, 1).get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        kind, precision, names = (
            info[key].astype(str) for key in ("layerType", "runtimePrecision", "originalLayersNames")
        )
        found.append(Executed(kind, precision, f",{names},"))
    return found


def audit(artifact: Artifact, plan: QuantPlan, target: Target) -> Audit:
    """Find what runs in INT8.

    Args:
        artifact: from `build`.
        plan: what was asked for.
        target: where this machine does not have its instruction set, nothing is found out here.

    Returns:
        The counts, and every node that was planned as INT8 and runs in float.
    """
    planned = [n for n in plan.nodes.values() if n.precision == "int8"]
    floats = sum(n.precision in ("float", "fp16") for n in plan.nodes.values())
    matches, why = target.matches_host()
    if not matches:
        return Audit(False, f"not audited here: {why}", len(planned), floats, {})
    operators = executed(artifact.main)
    unmatched, lowered = {}, {}
    for node in planned:
        held = [operator for operator in operators if node.head is None and operator.holds(node)]
        if held and not any(operator.precision in _CODES for operator in held):
            unmatched[node.name] = f"OpenVINO computes it in {held[0].precision}, as {held[0].kind}"
        if held:
            lowered[node.name] = ", ".join(f"{operator.kind} {operator.precision}" for operator in held)
    lost = [n for n in planned if n.name in unmatched or n.head in unmatched]
    summary = f"{len(planned) - len(lost)} operators run in INT8"
    if unmatched:
        summary += f"; {len(unmatched)} planned in INT8 run in float"
    halved = sum(n.precision == "fp16" for n in plan.nodes.values())
    if halved and planned:
        summary += f"; {halved} planned in float16 are stored in float32: its files are halved as a whole or not at all"
    heavy = [o for o in operators if o.kind in ("Convolution", "Deconvolution", "FullyConnected", "MatMul")]
    summary += f"; of {len(heavy)} executed convolutions and matrix products "
    summary += f"{sum(o.precision in _CODES for o in heavy)} are INT8"
    return Audit(True, summary, len(planned) - len(lost), floats + len(lost), unmatched, lowered=lowered)
