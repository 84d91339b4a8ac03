"""Scales and offsets after a linear operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes import affine
from dsedge.passes.base import Pass
from dsedge.passes.edit import FLOATS, array, is_constant, label, nodes, value_names

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization")


class FoldAffine(Pass):
    """Folds Mul, Div, Add and Sub by a constant a channel into the linear operator before them.

    What:
        y * c, y / c, y + c and y - c, where y is the output of Conv, ConvTranspose, Gemm or BatchNormalization and c a
        constant with one element, or one a channel, go into its weights and bias. Computed in float64.
    Why:
        Some exporters write the bias of a Conv as an Add, or a normalization as BatchNormalization, Mul and Add. ONNX
        Runtime fuses these in a float graph; with Q/DQ between them it no longer can.
    When not:
        Something else reads the value between the two, the weights are not constant, c varies along another axis than
        the channels, or the result overflows the type.
    Cost:
        One copy of the folded weights.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Folds what can be folded and notes what cannot."""
        modified = False
        taken = value_names(model)
        for node in nodes(model):
            operands = _operands(node)
            if operands is None:
                continue
            reason = _fold(node, *operands, taken)
            if reason:
                self.notes.append(f"{label(node)} not folded: {reason}")
            else:
                modified = True
        return ir.passes.PassResult(model, modified)


def _operands(node: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    """The linear operator and the constant that an elementwise node combines, or None."""
    if node.op_type not in ("Mul", "Div", "Add", "Sub"):
        return None
    x, constant = node.inputs
    if is_constant(x) and node.op_type in ("Mul", "Add"):
        x, constant = constant, x
    linear = x.producer() if x is not None else None
    if linear is None or linear.domain != "" or linear.op_type not in _LINEAR or not is_constant(constant):
        return None
    return (linear, constant) if constant.dtype in FLOATS else None


def _fold(node: ir.Node, linear: ir.Node, constant: ir.Value, taken: set[str]) -> str | None:
    if linear.op_type == "BatchNormalization" and not all(is_constant(value) for value in linear.inputs[1:]):
        return f"the parameters of {label(linear)} are not constant"
    reason = affine.why_not(linear, node)
    if reason:
        return reason
    vector = by_channel(array(constant), dims(linear.outputs[0]), affine.channels(linear))
    if vector is None:
        return f"{constant.name} is not one number a channel"
    factor, offset = factor_and_offset(node.op_type, vector)
    with np.errstate(all="ignore"):
        return affine.fold(linear, node, factor, offset, taken)


def factor_and_offset(op_type: str, constant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s and t of s y + t, which Mul, Div, Add or Sub with a constant as the second operand computes."""
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    with np.errstate(all="ignore"):
        return {
            "Mul": (constant, zero),
            "Div": (one / constant, zero),
            "Add": (one, constant),
            "Sub": (one, -constant),
        }[op_type]


def by_channel(constant: np.ndarray, shape: tuple[object, ...] | None, channels: int) -> np.ndarray | None:
    """The constant as float64 [channels], or None when it does not broadcast along axis 1 only."""
    if shape is None or constant.ndim > len(shape):
        return None
    padded = (1,) * (len(shape) - constant.ndim) + constant.shape
    if any(length != 1 for axis, length in enumerate(padded) if axis != 1) or padded[1] not in (1, channels):
        return None
    return np.broadcast_to(constant.ravel().astype(np.float64), channels)
