"""A scale and an offset a channel, moved into the operator that makes the channels; shared by the folding passes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.passes.edit import array, bypass, fresh, is_constant, label, set_constant


def why_not(linear: ir.Node, node: ir.Node) -> str | None:
    """Why `node` cannot be folded into `linear`, whose output it reads; None when it can be."""
    between = linear.outputs[0]
    if between.is_graph_output():
        return f"the output of {label(linear)} is an output of the graph"
    if len(between.uses()) > 1:
        return f"the output of {label(linear)} has {len(between.uses())} consumers"
    bias = linear.inputs[2] if len(linear.inputs) > 2 else None
    if linear.graph is not node.graph or not is_constant(linear.inputs[1]) or not (bias is None or is_constant(bias)):
        return f"the weights of {label(linear)} are not constant"
    return None


def fold(linear: ir.Node, node: ir.Node, factor: np.ndarray, offset: np.ndarray, taken: set[str]) -> str | None:
    """Replaces `linear` followed by `node` by `linear` alone.

    Args:
        linear: Conv, ConvTranspose, Gemm or BatchNormalization, with constant weights.
        node: computes factor * y + offset a channel of the output y of `linear`.
        factor: float64 [channels].
        offset: float64 [channels].
        taken: names of values that are in use; new ones are added.

    Returns:
        None, or the reason when the folded weights do not fit their type; then nothing changes.
    """
    weight, bias = linear.inputs[1], linear.inputs[2] if len(linear.inputs) > 2 else None
    assert weight is not None
    old = np.zeros(1) if bias is None else array(bias).astype(np.float64) * linear.attributes.get_float("beta", 1.0)
    dtype = array(weight).dtype
    with np.errstate(all="ignore"):
        new_weight = (array(weight) * _along_outputs(linear, array(weight), factor)).astype(dtype)
        new_bias = (old * factor + offset).astype(dtype)
    if not (np.isfinite(new_weight).all() and np.isfinite(new_bias).all()):
        return f"the folded weights overflow {dtype}"
    set_constant(linear, 1, new_weight, fresh(f"{weight.name}_folded", taken))
    set_constant(linear, 2, new_bias, fresh(f"{label(linear)}.bias", taken))
    linear.attributes.pop("beta", None)
    bypass(node, linear.outputs[0])
    return None


def channels(linear: ir.Node) -> int:
    """How many channels a Conv, ConvTranspose, Gemm or BatchNormalization with constant weights puts out."""
    assert linear.inputs[1] is not None
    shape: tuple[int, ...] = array(linear.inputs[1]).shape
    if linear.op_type == "ConvTranspose":
        return shape[1] * linear.attributes.get_int("group", 1)
    if linear.op_type == "Gemm" and not linear.attributes.get_int("transB", 0):
        return shape[1]
    return shape[0]


def _along_outputs(linear: ir.Node, weight: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """One factor an output channel, shaped to broadcast over the weight.

    Conv has weights [M, C/group, ...], ConvTranspose [C, M/group, ...] with C split into groups, Gemm [K, N], or
    [N, K] with transB, BatchNormalization [C].
    """
    if linear.op_type == "BatchNormalization":
        return factor
    spatial = [1] * (weight.ndim - 2)
    if linear.op_type == "ConvTranspose":
        group = linear.attributes.get_int("group", 1)
        rows = np.repeat(factor.reshape(group, -1), weight.shape[0] // group, axis=0)
        return rows.reshape(weight.shape[0], weight.shape[1], *spatial)
    if linear.op_type == "Gemm" and not linear.attributes.get_int("transB", 0):
        return factor.reshape(1, -1)
    return factor.reshape(-1, 1, *spatial)
