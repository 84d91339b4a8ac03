"""Conditions and axes that contracts of several runtimes share: facts about ONNX's operators, not about a runtime."""

from __future__ import annotations

import onnx_ir as ir


def gemm_axis(node: ir.Node) -> int:
    """The axis of the weight of a Gemm, or of a MatMul with a matrix, along which its outputs lie."""
    return 0 if node.attributes.get_int("transB", 0) else 1


def constant_bias(node: ir.Node) -> str | None:
    """The bias, input 2, must be a constant where there is one."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return "its bias is not a constant" if bias is not None and bias.const_value is None else None


def matrix_weight(node: ir.Node) -> str | None:
    """The weight, input 1, must have two axes."""
    weight = node.inputs[1]
    if weight is None or weight.shape is None or len(weight.shape) != 2:
        return "its weight is not a matrix"
    return None


def values_only(node: ir.Node) -> str | None:
    """The second output of a pool, the indices, must not be used."""
    indices = node.outputs[1] if len(node.outputs) > 1 else None
    if indices is not None and (indices.uses() or indices.is_graph_output()):
        return "its second output, the indices, is used"
    return None
