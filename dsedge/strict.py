"""Strict INT8: `--strict-int8` refuses a model of which an operator would compute on anything but codes."""

from __future__ import annotations

from collections.abc import Mapping

from dsedge.errors import CheckError
from dsedge.quant.interface import MOVES
from dsedge.quant.plan import QuantPlan

_MIXED = {
    "int8_dynamic": "INT8 weights under float activations",
    "int4": "INT4 weights under float activations",
    "fp16": "FP16 weights under float activations",
}
_SHOWN = 10
"""Operators that are named for one reason."""


def require_int8(plan: QuantPlan, unmatched: Mapping[str, str] | None = None) -> None:
    """Refuse a plan in which an operator computes on real numbers, whatever its weights are stored in.

    Operators on shapes, indices and booleans do not count, nor do those that compute nothing because they only say
    where numbers lie (`MOVES`): they are in float only where what they move is, at a real input of the model, say.

    Args:
        plan: of the artifact.
        unmatched: node -> reason, for nodes that were planned as INT8 and run in float.

    Raises:
        CheckError: DS202, with every such operator and its reason.
    """
    unmatched = unmatched or {}
    by_reason: dict[str, list[str]] = {}
    computing = [node for node in plan.nodes.values() if node.precision != "integer"]
    computing = [n for n in computing if n.precision == "int8" or n.op_type not in MOVES or n.name in unmatched]
    for node in computing:
        if node.name in unmatched or node.precision != "int8":
            mixed = _MIXED.get(node.precision)
            reason = unmatched.get(node.name, f"{mixed}: {node.reason}" if mixed else node.reason)
            by_reason.setdefault(reason, []).append(f"{node.name} ({node.op_type})")
    if by_reason:
        count = sum(map(len, by_reason.values()))
        raise CheckError(
            "DS202",
            f"{count} of {len(computing)} operators would compute on real numbers",
            where="--strict-int8",
            because="\n".join(f"{listed(names)}: {reason}" for reason, names in by_reason.items()),
            hint="replace these operators in the model, choose another --runtime, or leave out --strict-int8",
        )


def listed(names: list[str]) -> str:
    """Names between commas, of many the first ten."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
