"""Support: which nodes TensorRT cannot read at all, all of them at once."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.backends.base import Finding
from dsedge.backends.tensorrt.lint import lint

_CODES = ("TRT101", "TRT105", "TRT107")
"""The rules that hold on every GPU and for every version: operators and element types."""


def unsupported(model: ir.Model) -> list[Finding]:
    """Every node that NVIDIA's parser has no importer or no element type for, bodies of control flow included."""
    found = lint(model, "8.0", rules=_CODES)
    return [Finding(each.node, each.op, each.what) for each in found]
