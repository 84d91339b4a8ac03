"""Gates: limits that an artifact must keep. A number that was not measured is never a pass."""

from __future__ import annotations

from collections.abc import Sequence

from dsedge.bundle import Gate, Latency, Metric
from dsedge.report.text import size
from dsedge.target import Budgets

LATENCY_VS_FLOAT = "latency_vs_float"
LATENCY_TOLERANCE = 1.03
"""How much slower than float still counts as equal: the noise of two medians taken in turns."""


_OF_SIZE = {"size", "size_mb", "memory_mb"}
SIZE_SLACK = 2**16
"""Bytes that the nodes and scales of a Q/DQ graph may add: they outweigh the weights of a tiny model."""


def accuracy_gate(metric: Metric, max_drop: float) -> Gate:
    """The drop of a metric; a NaN fails."""
    passed = bool(metric.drop <= max_drop + 1e-9)
    return Gate(name=f"{metric.name}_drop", limit=max_drop, value=metric.drop, passed=passed, note="")


def latency_gates(rows: Sequence[Latency], budgets: Budgets, note: str, *, float_kernels: bool = False) -> list[Gate]:
    """Not slower than float, and inside of the board's budget.

    Args:
        rows: the fastest float artifact first, then the quantized one; empty when nothing was measured.
        budgets: of the board.
        note: why nothing was measured.
        float_kernels: the artifact runs the very kernels of the float one, so only noise could tell them apart.
    """
    ratio = rows[1].median_ms / rows[0].median_ms if len(rows) == 2 else None
    gates = [] if float_kernels else [_at_most(LATENCY_VS_FLOAT, LATENCY_TOLERANCE, ratio, note)]
    if budgets.latency_ms is not None:
        gates.append(_at_most("latency_ms", budgets.latency_ms, None, "only a run on the board can tell"))
    return gates


def size_gates(float_bytes: int, artifact_bytes: int, budgets: Budgets, *, graph: bool = False) -> list[Gate]:
    """Not larger than float, inside of the board's budget on disk, and memory, which only the board can tell.

    Args:
        float_bytes: of the float artifact.
        artifact_bytes: of the quantized one.
        budgets: of the board.
        graph: whether both are graphs, which the device makes something else of.
    """
    note = f"the float artifact has {size(float_bytes)}" + ("; both as graphs, not as engines" if graph else "")
    gates = [_at_most("size", float_bytes + SIZE_SLACK, artifact_bytes, note)]
    if budgets.size_mb is not None:
        gates.append(_at_most("size_mb", budgets.size_mb, artifact_bytes / 2**20, ""))
    if budgets.memory_mb is not None:
        gates.append(_at_most("memory_mb", budgets.memory_mb, None, "only a run on the board can tell"))
    return gates


def decisive(gates: Sequence[Gate]) -> list[Gate]:
    """The gates that failed and that a float artifact keeps: all but those of size, where it does no better."""
    return [gate for gate in gates if gate.passed is False and gate.name not in _OF_SIZE]


def _at_most(name: str, limit: float, value: float | None, note: str) -> Gate:
    return Gate(name=name, limit=limit, value=value, passed=None if value is None else value <= limit, note=note)
