"""Layer normalization written with ReduceMean."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import constant, label, nodes, value_names
from dsedge.passes.match import fits, replace
from dsedge.passes.moments import Standardized, over_axes, standardized


class DecomposedLayerNormalization(Pass):
    """Writes (x - mean) / sqrt(variance + epsilon) * scale + bias over the last axes as LayerNormalization.

    What:
        The normalization over the last axis, or over the last ones where there is a scale or bias along them, becomes
        one LayerNormalization. Division, Reciprocal, and x * i + (bias - mean * i) are all known. It takes the name of
        the last node.
    Why:
        Below opset 17 there is no LayerNormalization. A runtime has one kernel for it where it would run nine; and
        nothing inside of it may be quantized, which a contract can only say of one operator. Ba et al., "Layer
        Normalization", 2016.
    When not:
        The axes are others, scale and bias vary along others, something else reads a value on the way, or x is not
        float32 with static last axes.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites the normalizations over the last axes and notes the others."""
        modified = False
        taken = value_names(model)
        for node in nodes(model):
            found = standardized(node) if node.op_type == "Sqrt" else None
            if found is None:
                continue
            reason = _rewrite(found, taken)
            if reason:
                self.notes.append(f"{label(found.node)} is no LayerNormalization: {reason}")
            else:
                modified = True
        return ir.passes.PassResult(model, modified)


def _rewrite(found: Standardized, taken: set[str]) -> str | None:
    node, x, axes = found.node, found.x, found.axes
    rank = len(dims(x) or ())
    if axes != tuple(range(rank - len(axes), rank)):
        return f"it is over the axes {list(axes)}"
    if len(axes) > 1 and found.scale is None and found.bias is None:
        return "it is over several axes and has neither scale nor bias"
    scale, bias = over_axes(found.scale, x, axes, 1.0), over_axes(found.bias, x, axes, 0.0)
    if scale is None or bias is None:
        return "its axes are not static, or its scale or bias varies along others"
    if not fits(node, x) or node.graph is None:
        return "its input is not float32"
    inputs = [x, constant(node.graph, f"{label(node)}.scale", scale, taken)]
    if found.bias is not None:
        inputs.append(constant(node.graph, f"{label(node)}.bias", bias, taken))
    replace(node, "LayerNormalization", inputs, {"axis": -len(axes), "epsilon": found.epsilon})
    return None
