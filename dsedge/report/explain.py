"""What `dsedge explain` prints: the plan of a bundle in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from dsedge.bundle import Bundle, Manifest
from dsedge.report import summary
from dsedge.report.plan import Node, Plan, Value, WeightScale, fused, quantized_values, tied
from dsedge.report.terminal import candidates, cell, facts, table
from dsedge.report.text import number

_WORDS = {"int8": "INT8", "int8_dynamic": "INT8 dynamic", "int4": "INT4", "bf16": "BF16"}
_HALF = "float, FP16 weights"


def overview(bundle: Bundle, plan: Plan) -> RenderableType:
    """Every operator with its precision and the reason, every quantized value with its scale and tie group.

    Below them all artifacts that there were to choose from.
    """
    manifest = bundle.manifest
    head = facts(
        [
            ("bundle", bundle.path),
            ("model", manifest.model.name),
            ("target", summary.target(manifest)),
            ("contract", plan.contract),
            ("precision", summary.precision(manifest)),
            ("operators", summary.operators(manifest)),
            ("audit", manifest.precision.audit),
        ]
    )
    islands = _islands(manifest)
    lowered = any(n.lowered for n in plan.nodes)  # where the artifact is the graph itself, there is nothing to tell
    heads = ("operator", "type -> becomes" if lowered else "type", "precision", "because")
    nodes = [
        (n.name, f"{n.op} -> {n.lowered}" if n.lowered else n.op, _precision(n, islands), islands.get(n.name, n.reason))
        for n in plan.nodes
    ]
    parts: list[RenderableType] = [head, table(heads, nodes)]
    members = Counter(v.group for v in plan.values)
    values = [(v.name, *_numbers(v), v.group if members[v.group] > 1 else "") for v in plan.values]
    if values:
        columns = ("quantized activation", "dtype", "scale#", "zero point#", "calibrated range", "tie group")
        parts.append(table(columns, values))
    return Group(*parts, *candidates(manifest))


def node_view(plan: Plan, node: Node, manifest: Manifest) -> RenderableType:
    """One operator: precision, reason, fusion, and the scales of what it reads and writes."""
    islands = _islands(manifest)
    rows: list[tuple[str, object]] = [
        ("operator", f"{node.name} ({node.op})"),
        *((("becomes", node.lowered),) if node.lowered else ()),
        ("precision", _precision(node, islands)),
        ("because", islands.get(node.name, node.reason)),
        *(("fuses", f"{other.name} ({other.op})") for other in fused(plan, node)),
        *(("weights", f"input {index}, {stored}") for index, stored in zip(node.weights, _stored(node), strict=False)),
    ]
    values = [
        (role, value.name, *_numbers(value), ", ".join(tied(plan, value)))
        for role, value in quantized_values(plan, node)
    ]
    if not values:
        return facts(rows)
    columns = ("", "activation", "dtype", "scale#", "zero point#", "calibrated range", "tied with")
    return Group(facts(rows), table(columns, values))


def _stored(node: Node) -> list[str]:
    """How each weight is stored: type, axis, scales."""
    return [_scales(w) for w in node.weight_scales] or [node.precision for _ in node.weights]


def _scales(w: WeightScale) -> str:
    if w.axis is None:
        return f"{w.dtype}, scale {w.least:.6g}"
    if w.block is None:
        of = f"per channel (axis {w.axis}, {w.channels} channels)"
    else:
        of = f"in blocks of {w.block} along axis {w.axis} ({w.channels} blocks)"
    return f"{w.dtype} {of}, scales {w.least:.6g} to {w.greatest:.6g}"


def _islands(manifest: Manifest) -> dict[str, str]:
    """Operators that really run in float, with the reason."""
    return {island.node: island.reason for island in manifest.precision.islands}


def _precision(node: Node, islands: Mapping[str, str]) -> Text:
    if node.precision in _WORDS and node.name in islands:
        return cell(f"float, planned as {_WORDS[node.precision]}", "bold yellow")
    style = "green" if node.precision in _WORDS else "yellow" if node.precision in ("float", "fp16") else "dim"
    return cell(_HALF if node.precision == "fp16" else _WORDS.get(node.precision, node.precision), style)


def _numbers(value: Value) -> tuple[object, ...]:
    """dtype, scale, zero point and range of an activation."""
    interval = "" if value.range is None else f"{number(value.range[0])} to {number(value.range[1])}"
    if value.scale is None:
        return "", "", "", interval
    return value.dtype, f"{value.scale:.6g}", value.zero_point, interval
