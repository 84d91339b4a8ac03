"""Linear layers whose float result goes into an activation: QGemm.

The optimizer makes QGemm of a Gemm that reads codes. But it takes an activation behind a Gemm up into FusedGemm before,
which computes in float; only a quantizer behind the activation keeps it from that.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.onnxruntime.blocks import DOMAIN

_TAKEN_UP = "Elu HardSigmoid LeakyRelu Relu Selu Sigmoid Softplus Softsign Tanh ThresholdedRelu".split()
_KEPT = ("alpha", "transA", "transB")


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
    return pairs if len(pairs) == len(node.inputs) and _on_the_grid(*pairs) else None


def _on_the_grid(x: ir.Node, weight: ir.Node, bias: ir.Node | None = None) -> bool:
    """Whether the bias has the scale of the product, as QGemm takes it: a model that came quantized may differ."""
    scales = [dq.inputs[1].const_value for dq in (x, weight, bias) if dq is not None and dq.inputs[1] is not None]
    if bias is None or any(scale is None for scale in scales):
        return bias is None
    of_x, of_weight, of_bias = (scale.numpy() for scale in scales if scale is not None)
    return np.allclose(of_bias, of_x * of_weight, rtol=1e-5, atol=0)


def qgemm(node: ir.Node, pairs: tuple[ir.Node, ...]) -> ir.Node:
    """QGemm on codes, with the result in float; it is not in the graph yet. Its bias is on the scale of the product."""
    x, weight, *bias = pairs
    inputs = [*x.inputs, *weight.inputs, *(dq.inputs[0] for dq in bias)]
    attributes = {name: node.attributes[name] for name in _KEPT if name in node.attributes}
    return ir.node("QGemm", inputs, attributes, domain=DOMAIN, name=node.name)
