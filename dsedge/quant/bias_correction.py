"""Bias correction: take the mean error of quantized weights out of the bias.

Rounding the weights shifts the mean of every output channel by the weight error times the mean input. The shift is
known from the calibrated means, so it costs no further inference: section 4.2 of Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction" (ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsedge.quant.contract import Contract
from dsedge.quant.observers import Observer
from dsedge.quant.plan import NodePlan, QuantPlan
from dsedge.quant.qparams import quantize


def correct_biases(model: ir.Model, plan: QuantPlan, contract: Contract, observers: Mapping[str, Observer]) -> ir.Model:
    """A copy of a float model in which the biases of INT8 Conv and Gemm make up for the rounding of their weights.

    Args:
        model: the normalized float model; left as it is.
        plan: says which nodes are INT8.
        contract: gives the format of weights.
        observers: hold the channel means of the values that the nodes read.

    Returns:
        The copy. Padding is ignored, as in the paper: at the border the mean input is a little smaller.
    """
    model = model.clone()
    for node in model.graph:
        node_plan = plan.nodes[node.name or ""]
        if node.op_type not in ("Conv", "Gemm") or node_plan.precision != "int8" or node_plan.bias is None:
            continue
        means = observers[node_plan.reads[0]].channel_means if node_plan.reads[0] in observers else None
        bias = node.inputs[node_plan.bias]
        if means is None or bias is None or len(bias.uses()) > 1:
            continue
        shift = _mean_error(node, node_plan, contract, means)
        if shift is not None:
            old = bias.const_value
            assert old is not None
            bias.const_value = ir.tensor((old.numpy() - shift).astype(np.float32), name=bias.name)
    return model


def _mean_error(
    node: ir.Node, plan: NodePlan, contract: Contract, means: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | None:
    """The mean error of each output channel, [out]; None when the means do not fit the weight."""
    value = node.inputs[plan.weights[0]]
    assert value is not None and value.const_value is not None
    weight = value.const_value.numpy()
    params = plan.weight_qparams[plan.weights[0]]
    shape = [1] * weight.ndim
    if plan.axis is not None:
        shape[plan.axis] = -1
    error = quantize(weight, params, contract.weight) * params.scale.reshape(shape).astype(np.float64) - weight
    if node.op_type == "Gemm":
        error = error if node.attributes.get_int("transB", 0) else error.T
        return error @ means if error.shape[1] == means.size else None
    groups = node.attributes.get_int("group", 1)
    error = error.sum(axis=tuple(range(2, weight.ndim)))  # [out, in / groups]
    if error.shape[1] * groups != means.size:
        return None
    per_group = error.reshape(groups, -1, error.shape[1])
    shift: npt.NDArray[np.float64] = np.einsum("goi,gi->go", per_group, means.reshape(groups, -1)).reshape(-1)
    return shift
