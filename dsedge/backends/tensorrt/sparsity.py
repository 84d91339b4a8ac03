"""2:4 structured sparsity.

From Ampere on a tensor core skips the zeros of weights of which, in every four along the axis that is summed over, two
or more are zero (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021). TensorRT looks for them when its
builder is told to.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.quant.conditions import gemm_axis

_GROUP, _KEPT = 4, 2


def sparse_products(model: ir.Model) -> tuple[list[str], int]:
    """The convolutions and matrix products whose weights are 2:4 sparse.

    Args:
        model: a float or Q/DQ graph.

    Returns:
        Their names, and how many have constant weights at all.
    """
    found, count = [], 0
    for node in model.graph:
        weights = _weights(node) if node.op_type in ("Conv", "Gemm", "MatMul") and len(node.inputs) > 1 else None
        if weights is not None:
            count += 1
            if is_two_of_four(weights, 1 if node.op_type == "Conv" else 1 - gemm_axis(node)):
                found.append(node.name or "")
    return found, count


def is_two_of_four(weights: np.ndarray, axis: int) -> bool:
    """Whether in every four numbers along an axis at most two are not zero; an axis shorter than four never is."""
    if weights.shape[axis] < _GROUP:
        return False
    rows = np.moveaxis(weights != 0, axis, -1)
    rows = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % _GROUP)])
    return bool((rows.reshape(-1, _GROUP).sum(axis=1) <= _KEPT).all())


def _weights(node: ir.Node) -> np.ndarray | None:
    """The constant weights of a node, as codes where they stand behind a DequantizeLinear."""
    value = node.inputs[1]
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type in ("DequantizeLinear", "Cast"):
        value = producer.inputs[0]
    if value is None or value.const_value is None or len(value.const_value.shape) < 2:
        return None
    return value.const_value.numpy()
