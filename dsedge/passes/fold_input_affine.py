"""Scales and offsets before a linear operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import FLOATS, array, bypass, fresh, is_constant, label, nodes, set_constant, value_names
from dsedge.passes.fold_affine import by_channel, factor_and_offset
from dsedge.passes.match import only_user, operands

_SPREAD = 4.0  # a weight that is scaled down by this has lost two bits of its channel's scale


class FoldInputAffine(Pass):
    """Folds Mul, Div, Add, Sub and BatchNormalization before a Conv or Gemm into its weights and bias.

    What:
        Of s x + t with a number s and t for each channel, s scales the weights along the input channels, and the sum of
        weights times t goes into the bias. Computed in float64 and rounded once to the type of the weights.
    Why:
        Preprocessing that was exported with the model, (x - mean) / std, and a normalization before a convolution cost
        a pass over the feature map each, and their quantization an error of its own.
    When not:
        There is an offset and the convolution pads: it pads with zeros behind the offset. Something else reads the
        value between, weights are not constant, the scales of two channels differ by more than a factor of 4, which
        would take too many bits of the smaller one's weights, or the result overflows the type.
    Cost:
        One copy of the folded weights.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Folds what can be folded and notes what cannot."""
        modified = False
        taken = value_names(model)
        for linear in nodes(model):
            while linear.op_type in ("Conv", "Gemm") and (node := _before(linear)) is not None:
                reason = _fold(node, linear, taken)
                if reason:
                    self.notes.append(f"{label(node)} not folded into {label(linear)}: {reason}")
                    break
                modified = True
        return ir.passes.PassResult(model, modified)


def _before(linear: ir.Node) -> ir.Node | None:
    """The scale or offset by constants that a linear operator reads."""
    x = linear.inputs[0]
    node = x.producer() if x is not None else None
    if node is None or node.domain != "" or x is None or x.dtype not in FLOATS or only_user(x, linear.op_type) is None:
        return None
    return node if _affine(node) is not None else None


def _affine(node: ir.Node) -> tuple[ir.Value, np.ndarray, np.ndarray] | None:
    """x and float64 s and t, each one number or one a channel, of a node that computes s x + t."""
    if node.op_type == "BatchNormalization":
        parameters = [array(v).astype(np.float64) for v in node.inputs[1:] if is_constant(v)]
        if len(parameters) != 4 or node.attributes.get_int("training_mode", 0) != 0 or node.inputs[0] is None:
            return None
        scale, beta, mean, variance = parameters
        factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        return node.inputs[0], factor, beta - mean * factor
    if node.op_type not in ("Mul", "Div", "Add", "Sub"):
        return None
    pairs = operands(node) if node.op_type in ("Mul", "Add") else ((node.inputs[0], node.inputs[1]),)
    for x, c in pairs:
        shape = dims(x) if x is not None else None
        if x is None or shape is None or is_constant(x) or not is_constant(c) or len(shape) < 2:
            continue
        channels = shape[1] if isinstance(shape[1], int) else 1
        vector = by_channel(array(c), shape, channels)
        if vector is not None:
            return x, *factor_and_offset(node.op_type, vector)
    return None


def _fold(node: ir.Node, linear: ir.Node, taken: set[str]) -> str | None:
    affine = _affine(node)
    weight, bias = linear.inputs[1], linear.inputs[2] if len(linear.inputs) > 2 else None
    assert affine is not None
    if not is_constant(weight) or not (bias is None or is_constant(bias)) or linear.graph is not node.graph:
        return "its weights are not constant"
    x, factor, offset = affine
    if _pads(linear) and offset.any():
        return "there is an offset, and the convolution pads with zeros behind it"
    if not np.all(np.abs(factor) > 0) or np.abs(factor).max() > _SPREAD * np.abs(factor).min():
        return "the scales of its channels differ too much"
    if linear.op_type == "Gemm" and linear.attributes.get_int("transA", 0) != 0:
        return "its input is transposed"
    data = array(weight)
    scaled, added = (_scaled(linear, data.astype(np.float64), vector) for vector in (factor, offset))
    alpha, beta = linear.attributes.get_float("alpha", 1.0), linear.attributes.get_float("beta", 1.0)
    outputs = (0,) if _inputs_axis(linear) else (data.ndim - 1,)
    total = alpha * added.sum(axis=tuple(axis for axis in range(data.ndim) if axis not in outputs))
    new_bias = total + (0.0 if bias is None else beta * array(bias).astype(np.float64))
    with np.errstate(all="ignore"):
        weights, biases = scaled.astype(data.dtype), new_bias.astype(data.dtype)
    if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
        return f"the folded weights overflow {data.dtype}"
    set_constant(linear, 1, weights, fresh(f"{weight.name}_folded", taken))
    if bias is not None or offset.any():
        set_constant(linear, 2, biases, fresh(f"{label(linear)}.bias", taken))
        linear.attributes.pop("beta", None)
    bypass(node, x)
    return None


def _pads(linear: ir.Node) -> bool:
    """Whether a convolution pads, as far as its attributes tell."""
    automatic = linear.attributes.get_string("auto_pad", "NOTSET")
    return automatic not in ("NOTSET", "VALID") or any(linear.attributes.get_ints("pads", []))


def _inputs_axis(linear: ir.Node) -> int:
    return 1 if linear.op_type == "Conv" or linear.attributes.get_int("transB", 0) != 0 else 0


def _scaled(linear: ir.Node, weight: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The weights, each times the number of the input channel that it reads.

    Conv has weights [M, C/group, ...]; group g of its outputs reads the channels of group g. Gemm has [C, N], or
    [N, C] with transB.
    """
    if linear.op_type == "Gemm":
        factors = vector if _inputs_axis(linear) else vector.reshape(-1, 1)
    else:
        group = linear.attributes.get_int("group", 1)
        rows = np.broadcast_to(vector, weight.shape[1] * group).reshape(group, weight.shape[1])
        rows = np.repeat(rows, weight.shape[0] // group, axis=0)
        factors = rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))
    scaled: np.ndarray = weight * factors
    return scaled
