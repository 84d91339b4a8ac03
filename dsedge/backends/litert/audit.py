"""Audit: read the written file back, see what computes on codes, and ask the runtime which operators XNNPACK takes.

What is INT8 is decided by the file alone, not by the CPU: an operator whose tensors are codes runs on codes everywhere.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dsedge.backends.base import Artifact, Audit
from dsedge.backends.litert.contract import XNNPACK, contract
from dsedge.backends.litert.quiet import quiet
from dsedge.backends.litert.read import Operator, read
from dsedge.backends.litert.versions import MOVES
from dsedge.errors import VerifyError
from dsedge.quant.plan import NodePlan, QuantPlan
from dsedge.session import first_line
from dsedge.target import Target

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_MOVING = frozenset(
    """Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather GatherND DepthToSpace SpaceToDepth Concat Pad
    Expand Tile Identity""".split()
)
"""Types of nodes that move or repeat numbers: TFLite's `MOVES` are what they become, and for others but helpers."""
_KEEPS_STATE = "UNIDIRECTIONAL_SEQUENCE_LSTM"
_STATE = (
    f"{_KEEPS_STATE} keeps its state from run to run: call reset_all_variables() (Java: resetVariableTensors()) before "
    "each sequence"
)
_SHOWN, _LISTED = 5, 12


@dataclass(frozen=True)
class Delegation:
    """What XNNPACK makes of a file.

    Attributes:
        partitions: for each stretch that it takes the operators in it, as indices.
    """

    partitions: tuple[frozenset[int], ...]

    def takes(self, operator: Operator) -> bool:
        """Whether an operator runs in XNNPACK."""
        return any(operator.index in partition for partition in self.partitions)


def audit(artifact: Artifact, plan: QuantPlan, target: Target) -> Audit:
    """Find what runs in INT8.

    Args:
        artifact: from `build`.
        plan: what was asked for.
        target: where its runtime has XNNPACK's INT8 kernels, the partitions are counted in the runtime here.

    Returns:
        The counts, every node that was planned as INT8 and that the file computes in float, and the operators that
        each node became.
    """
    operators = read(artifact.main)
    by_node: dict[str, list[Operator]] = {}
    for operator in operators:
        by_node.setdefault(operator.node, []).append(operator)
    unmatched = {n.name: why for n in plan.nodes.values() if (why := _missed(n, by_node.get(n.name, [])))}
    planned = [n for n in plan.nodes.values() if n.precision in ("int8", "int8_dynamic")]
    floats = [n for n in plan.nodes.values() if n.precision in ("float", "fp16")]
    lost = [n for n in planned if n.name in unmatched or n.head in unmatched]
    silent = [n.name for n in floats if any(o.precision == "int8" for o in _doing(n, by_node.get(n.name, [])))]
    summary = f"operators in INT8: {len(planned) - len(lost)}"
    if unmatched:
        summary += f"; {len(unmatched)} planned in INT8 run in float"
    if silent:
        summary += f"; {len(silent)} planned in float run in INT8 all the same: {', '.join(silent[:_SHOWN])}"
    summary += f"; {_written(operators)} in {artifact.bytes / 1000:.0f} kB"
    if contract(target).variant == XNNPACK:
        summary += f", {_delegated(operators, delegation(artifact.main, operators))}"
    if any(operator.op == _KEEPS_STATE for operator in operators):
        summary += f"; {_STATE}"
    lowered = {n.name: shown for n in plan.nodes.values() if (shown := _shown(by_node.get(n.head or n.name, [])))}
    return Audit(True, summary, len(planned) - len(lost), len(floats) + len(lost), unmatched, lowered=lowered)


def delegation(path: Path, operators: list[Operator]) -> Delegation:
    """Open a file in the runtime, and find the stretches that XNNPACK takes.

    The runtime shows each as an operator DELEGATE with the tensors that it reads and writes: what lies between them,
    followed from its outputs to its inputs, is in it.

    Raises:
        VerifyError: DS502 when the runtime refuses the file.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quiet():
            interpreter = Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise VerifyError("DS502", "the artifact does not run", where=path.name, because=first_line(error)) from error
    writers = {tensor: operator for operator in operators for tensor in operator.outputs}
    partitions = []
    for detail in interpreter._get_ops_details():
        if detail["op_name"] != "DELEGATE":
            continue
        known, inside = {int(t) for t in detail["inputs"]}, set()
        open_tensors = [int(t) for t in detail["outputs"]]
        while open_tensors:
            tensor = open_tensors.pop()
            if tensor in known or tensor not in writers:
                continue
            known.add(tensor)
            inside.add(writers[tensor].index)
            open_tensors += writers[tensor].inputs
        partitions.append(frozenset(inside))
    return Delegation(tuple(partitions))


def _doing(node: NodePlan, written: list[Operator]) -> list[Operator]:
    """The operators that do what a node does: not those that bring numbers into the type, order or shape for them."""
    return [o for o in written if o.op not in _CONVERSIONS and (node.op_type in _MOVING or o.op not in MOVES)]


def _missed(node: NodePlan, written: list[Operator]) -> str | None:
    """Why a node that was planned as INT8 is not, None where it is; what only renames axes is written as nothing."""
    if node.precision not in ("int8", "int8_dynamic") or node.head is not None:
        return None
    doing = _doing(node, written)
    if node.weights and not node.inputs:  # a table or weights in INT8, and all else in float
        found = any(o.precision in ("hybrid", "int8") for o in doing)
        return None if found else "the file holds its weights in float"
    names = sorted({o.op for o in doing if o.precision in ("float", "hybrid")})
    return f"the file computes it in float, as {', '.join(names)}" if names else None


def _written(operators: list[Operator]) -> str:
    kinds = Counter(o.precision for o in operators if o.op not in _CONVERSIONS)
    ops = Counter(o.op for o in operators)
    hybrid = f", {kinds['hybrid']} on float with INT8 weights" if kinds["hybrid"] else ""
    conversions = sum(ops[name] for name in _CONVERSIONS)
    return (
        f"the file holds {kinds['int8']} INT8 operators{hybrid}, {kinds['float']} float ones, "
        f"{conversions} conversions and {ops['TRANSPOSE']} transposes"
    )


def _delegated(operators: list[Operator], found: Delegation) -> str:
    count = len(found.partitions)
    text = f"in {count} XNNPACK partition{'s' if count != 1 else ''}"
    outside = Counter(o.op for o in operators if not found.takes(o))
    names = ", ".join(f"{op} x{n}" if n > 1 else op for op, n in outside.most_common(_SHOWN))
    return f"{text}; outside of XNNPACK run {names}" if outside else text


def _shown(written: list[Operator]) -> str:
    """The operators of a node for people: "CONV_2D #3", or how often each occurs where they are many."""
    if len(written) > _LISTED:
        return ", ".join(f"{op} x{count}" for op, count in Counter(o.op for o in written).most_common())
    return ", ".join(f"{o.op} #{o.index}" for o in written)
