"""BatchNormalization after a linear operator."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.passes import affine
from dsedge.passes.base import Pass
from dsedge.passes.edit import array, is_constant, label, nodes, value_names

_LINEAR = ("Conv", "ConvTranspose", "Gemm")


class FoldBatchnorm(Pass):
    """Folds BatchNormalization into the Conv, ConvTranspose or Gemm before it.

    What:
        With s = scale / sqrt(var + epsilon): weights times s along the output channels, bias = (bias - mean) * s + B.
        Computed in float64 and rounded once to the type of the weights.
    Why:
        One operator instead of two in float; and quantizing between the two would round a value that nobody reads.
        Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        2018, section 3.2.
    When not:
        Something else reads the value between the two, a parameter is not constant, the normalization is in training
        mode, or the result overflows the type. A BatchNormalization that stands alone stays.
    Cost:
        One copy of the folded weights. A pruned model trains back badly without its normalization.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Folds what can be folded and notes what cannot."""
        modified = False
        taken = value_names(model)
        for node in nodes(model):
            if node.op_type != "BatchNormalization":
                continue
            reason = _fold(node, taken)
            if reason:
                self.notes.append(f"{label(node)} not folded: {reason}")
            else:
                modified = True
        return ir.passes.PassResult(model, modified)


def _fold(norm: ir.Node, taken: set[str]) -> str | None:
    """Folds a normalization into the operator before it, or says why not."""
    linear = norm.inputs[0].producer() if norm.inputs[0] is not None else None
    if linear is None or linear.domain != "" or linear.op_type not in _LINEAR:
        return "its input comes from " + (f"{label(linear)} ({linear.op_type})" if linear else "no node")
    if norm.attributes.get_int("training_mode", 0) or any(output.name for output in norm.outputs[1:]):
        return "it is in training mode"
    parameters = [value for value in norm.inputs[1:] if is_constant(value)]
    if len(parameters) != 4:
        return "its parameters are not constant"
    reason = affine.why_not(linear, norm)
    if reason:
        return reason
    scale, beta, mean, var = (array(value).astype(np.float64) for value in parameters)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(var + norm.attributes.get_float("epsilon", 1e-5))
        return affine.fold(linear, norm, factor, beta - mean * factor, taken)
