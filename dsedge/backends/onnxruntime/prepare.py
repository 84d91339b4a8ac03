"""Prepare: a float graph in operators that ONNX Runtime has INT8 kernels for, where that is faster.

The graph computes the same in float. Nodes that stay keep their names, and new ones derive theirs from the node that
they replace, so that the plan tells where they come from.
"""

from __future__ import annotations

import onnx_ir as ir

from dsedge.backends.onnxruntime.sub_pixel import as_convolution, obstacle
from dsedge.passes.infer_shapes import InferShapes


def prepare(model: ir.Model) -> ir.Model:
    """Write every ConvTranspose that can be as a convolution with a DepthToSpace behind it.

    Args:
        model: normalized, float; left as it is.

    Returns:
        The model itself when there is nothing to do, else a copy.
    """
    if all(obstacle(node) for node in model.graph):
        return model
    model = model.clone()
    for node in list(model.graph):
        if obstacle(node) is None:
            as_convolution(model, node)
    InferShapes()(model)
    return model
