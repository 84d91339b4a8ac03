"""Support: which nodes OpenVINO's ONNX frontend cannot convert, all of them at once."""

from __future__ import annotations

import re
from typing import Any

import onnx_ir as ir

from dsedge.backends.base import Finding
from dsedge.backends.openvino.convert import convert
from dsedge.session import first_line

_REASONS = {
    "ONNXFrameworkNode": "OpenVINO has no such operator",
    "SequenceMark": "OpenVINO has no sequences",
    "NotSupportedONNXNode": "the frontend cannot convert it",
}
"""Operators of a model that was converted in part -> what it means that they are left."""


def unsupported(model: ir.Model) -> list[Finding]:
    """Every node that is not converted; one finding without a node where the frontend refuses the model as a whole."""
    texts = [_finding(node, "it works on text") for node in model.graph.all_nodes() if _on_text(node)]
    if texts:
        return texts
    try:
        convert(model)
        return []
    except Exception as error:  # of many types
        message = str(error)
        whole = Finding("", "", first_line(error))
    try:
        left = {op.get_friendly_name(): op.get_type_name() for op in _operators(convert(model, partially=True))}
    except Exception:
        return [whole]
    found = []
    for node in model.graph.all_nodes():
        kind = next((left[name] for name in (node.name, *(v.name for v in node.outputs)) if name in left), None)
        if kind in _REASONS:
            found.append(_finding(node, _said(message, node) or _REASONS[kind]))
    return found or [whole]


def _finding(node: ir.Node, reason: str) -> Finding:
    return Finding(node.name or "", f"{node.domain}.{node.op_type}" if node.domain else node.op_type, reason)


def _on_text(node: ir.Node) -> bool:
    return any(v is not None and v.dtype == ir.DataType.STRING for v in (*node.inputs, *node.outputs))


def _operators(model: Any) -> list[Any]:
    """The operators of a model, and of the bodies inside."""
    ops = list(model.get_ordered_ops())
    bodies = [op.get_function() for op in ops if op.get_type_name() in ("Loop", "TensorIterator")]
    branches = [op.get_function(i) for op in ops if op.get_type_name() == "If" for i in range(2)]
    return ops + [inner for body in (*bodies, *branches) for inner in _operators(body)]


def _said(message: str, node: ir.Node) -> str:
    """What the frontend says of a node's type: the last line of its message, which names what is wrong."""
    parts = re.split(r"^-- ", message, flags=re.MULTILINE)
    said = next((part for part in parts if part.startswith(f"{node.op_type}-") and "\n" in part), "")
    lines = [line for line in said.partition("\n\n")[0].splitlines()[1:] if line.strip()]
    return lines[-1].strip()[:300] if lines else ""
