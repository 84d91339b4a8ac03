"""Instance normalization written with ReduceMean."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import constant, label, nodes, value_names
from dsedge.passes.match import fits, replace
from dsedge.passes.moments import Standardized, over_axes, standardized


class DecomposedInstanceNormalization(Pass):
    """Writes (x - mean) / sqrt(variance + epsilon) * scale + bias over space as InstanceNormalization.

    What:
        The normalization over the axes 2 and up, with a scale and a bias a channel or none, becomes one
        InstanceNormalization under the name of the last node.
    Why:
        As for decomposed-layer-normalization; style transfer and segmentation networks have one behind every
        convolution. Ulyanov et al., "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016.
    When not:
        The axes are others, scale or bias varies in space, something else reads a value on the way, or x is not
        float32 with a static number of channels.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites the normalizations over space and notes the others."""
        modified = False
        taken = value_names(model)
        for node in nodes(model):
            found = standardized(node) if node.op_type == "Sqrt" else None
            if found is None:
                continue
            reason = _rewrite(found, taken)
            if reason:
                self.notes.append(f"{label(found.node)} is no InstanceNormalization: {reason}")
            else:
                modified = True
        return ir.passes.PassResult(model, modified)


def _rewrite(found: Standardized, taken: set[str]) -> str | None:
    node, x = found.node, found.x
    rank = len(dims(x) or ())
    if rank < 3 or found.axes != tuple(range(2, rank)):
        return f"it is over the axes {list(found.axes)}"
    scale, bias = over_axes(found.scale, x, (1,), 1.0), over_axes(found.bias, x, (1,), 0.0)
    if scale is None or bias is None:
        return "its channels are not static, or its scale or bias is not one number a channel"
    if not fits(node, x) or node.graph is None:
        return "its input is not float32"
    weights = [
        constant(node.graph, f"{label(node)}.{name}", data, taken) for name, data in (("scale", scale), ("bias", bias))
    ]
    replace(node, "InstanceNormalization", [x, *weights], {"epsilon": found.epsilon})
    return None
