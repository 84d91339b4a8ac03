"""Support: which nodes OpenVINO's ONNX frontend cannot convert, all of them at once."""

from __future__ import annotations

import re
from typing import Any

import onnx_ir as ir

from dsedge.backends.base import Finding
from dsedge.backends.openvino.convert import convert
from dsedge.session import first_line

_UNKNOWN, _FAILED = "ONNXFrameworkNode", "NotSupportedONNXNode"
_NO_RULE = "OpenVINO has no such operator"


def unsupported(model: ir.Model) -> list[Finding]:
    """Every node that is not converted; one finding without a node where the frontend refuses the model as a whole."""
    try:
        convert(model)
        return []
    except Exception as error:  # of many types
        message = str(error)
        whole = Finding("", "", first_line(error))
    try:
        left = {op.get_friendly_name(): op for op in _operators(convert(model, partially=True))}
    except Exception:
        return [whole]
    found = []
    for node in model.graph.all_nodes():
        op = next((left[name] for name in (node.name, *(v.name for v in node.outputs)) if name in left), None)
        if op is not None and op.get_type_name() in (_UNKNOWN, _FAILED):
            shown = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            reason = _NO_RULE if op.get_type_name() == _UNKNOWN else _reason(message, node)
            found.append(Finding(node.name or "", shown, reason))
    return found or [whole]


def _operators(model: Any) -> list[Any]:
    """The operators of a model, and of the bodies inside."""
    ops = list(model.get_ordered_ops())
    bodies = [op.get_function() for op in ops if op.get_type_name() in ("Loop", "TensorIterator")]
    branches = [op.get_function(i) for op in ops if op.get_type_name() == "If" for i in range(2)]
    return ops + [inner for body in (*bodies, *branches) for inner in _operators(body)]


def _reason(message: str, node: ir.Node) -> str:
    """What the frontend says of a node's type: the last line of its message, which names what is wrong."""
    parts = re.split(r"^-- ", message, flags=re.MULTILINE)
    said = next((part for part in parts if part.startswith(f"{node.op_type}-") and "\n" in part), "")
    lines = [line for line in said.partition("\n\n")[0].splitlines()[1:] if line.strip()]
    return lines[-1].strip()[:300] if lines else "the frontend cannot convert it"
