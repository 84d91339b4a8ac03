"""Linear layers whose float result goes into an activation: QGemm.

The optimizer makes QGemm of a Gemm that reads codes. But it takes an activation behind a Gemm up into FusedGemm before,
which computes in float; only a quantizer behind the activation keeps it from that.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.onnxruntime.blocks import DOMAIN
from dsedge.quant.conditions import gemm_axis

_TAKEN_UP = "Elu HardSigmoid LeakyRelu Relu Selu Sigmoid Softplus Softsign Tanh ThresholdedRelu".split()


def before_activation(node: ir.Node) -> tuple[ir.Node, ...] | None:
    """The DequantizeLinear nodes of the inputs of an INT8 Gemm that would become a FusedGemm."""
    if node.op_type != "Gemm" or node.domain or node.outputs[0].is_graph_output():
        return None
    users = list(node.outputs[0].consumers())
    if len(users) != 1 or users[0].op_type not in _TAKEN_UP:
        return None
    if any(behind.op_type == "QuantizeLinear" for behind in users[0].outputs[0].consumers()):
        return None
    found = [value.producer() for value in node.inputs if value is not None]
    pairs = tuple(dq for dq in found if dq is not None and dq.op_type == "DequantizeLinear" and len(dq.inputs) == 3)
    return pairs if len(pairs) == len(node.inputs) and _as_qgemm_takes(node, *pairs) else None


def _as_qgemm_takes(node: ir.Node, x: ir.Node, weight: ir.Node, bias: ir.Node | None = None) -> bool:
    """Whether QGemm computes the same: a model that came quantized may scale, or lie, in other ways."""
    factors = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    transposed = node.attributes.get_int("transA", 0)
    if factors != [1.0, 1.0] or transposed:
        return False
    types = [dq.inputs[2].dtype for dq in (x, weight) if dq.inputs[2] is not None]
    if types not in ([ir.DataType.INT8] * 2, [ir.DataType.UINT8] * 2, [ir.DataType.UINT8, ir.DataType.INT8]):
        return False
    of_x, of_weight, *of_bias = (_scale(dq) for dq in (x, weight, bias) if dq is not None)
    if of_x is None or of_weight is None or of_x.size > 1:
        return False
    axis, block = weight.attributes.get_int("axis", 1) % 2, weight.attributes.get_int("block_size", 0)
    if of_weight.size > 1 and (block or axis != gemm_axis(node)):
        return False
    product = of_x * of_weight
    return all(
        own is not None and own.size in (1, product.size) and np.allclose(own, product, rtol=1e-5, atol=0)
        for own in of_bias
    )


def _scale(dq: ir.Node) -> np.ndarray | None:
    scale = dq.inputs[1].const_value if dq.inputs[1] is not None else None
    return None if scale is None else scale.numpy()


def qgemm(node: ir.Node, pairs: tuple[ir.Node, ...]) -> ir.Node:
    """QGemm on codes, with the result in float; it is not in the graph yet. Its bias is on the scale of the product."""
    x, weight, *bias = pairs
    inputs = [*x.inputs, *weight.inputs, *(dq.inputs[0] for dq in bias)]
    attributes = {"transB": node.attributes.get_int("transB", 0)}
    return ir.node("QGemm", inputs, attributes, domain=DOMAIN, name=node.name)
