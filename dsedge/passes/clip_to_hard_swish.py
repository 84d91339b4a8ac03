"""HardSigmoid and HardSwish written with Clip."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import label, nodes
from dsedge.passes.match import Product, close, fits, plus_scalar, products, replace, scalar, scaled

_ALPHAS = (1 / 6, 0.2)  # of Howard et al. 2019, and of Keras


class ClipToHardSwish(Pass):
    """Writes clip(x + 3, 0, 6) / 6 as HardSigmoid, and x times that as HardSwish.

    What:
        clip(a x + b, 0, h), times 1 / h in any place, becomes HardSigmoid when that is one that people use: alpha
        a / h = 1/6 or 0.2, beta b / h = 0.5. HardSigmoid(alpha=1/6, beta=0.5) times x becomes HardSwish. The new node
        takes the name of the last one it replaces.
    Why:
        Below opset 14 there is no HardSwish. The written-out form has a sum that reaches far beyond the values that
        matter, and quantizing that costs accuracy for nothing. Howard et al., "Searching for MobileNetV3", 2019.
    When not:
        The numbers are others, something else reads a value on the way, or x is not float32 of known rank. A Clip that
        is the last step of a model, of an image for example, is not one of these.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites each Clip and HardSigmoid that is part of one, and notes sums that are clipped otherwise."""
        modified = False
        for node in nodes(model):
            if node.op_type == "Clip" and len(node.inputs) == 3 and node.inputs[0] is not None:
                done = _from_clip(node)
                if done is False and plus_scalar(node.inputs[0]) is not None:
                    self.notes.append(f"{label(node)} stays a Clip: its numbers are not those of a HardSigmoid")
                modified |= done
        for node in nodes(model):
            modified |= node.op_type == "HardSigmoid" and _from_hard_sigmoid(node)
        return ir.passes.PassResult(model, modified)


def _from_clip(clip: ir.Node) -> bool:
    found = plus_scalar(clip.inputs[0])
    low, high = scalar(clip.inputs[1]), scalar(clip.inputs[2])
    if found is None or low != 0.0 or not high or not close(found[1] / high, 0.5):
        return False
    x, slope = scaled(found[0])
    if not any(close(slope / high, alpha) for alpha in _ALPHAS):
        x, slope = found[0], 1.0
    alpha = next((a for a in _ALPHAS if close(slope / high, a)), None)
    if alpha is None or not fits(clip, x):
        return False
    candidates = [Product(clip, 1.0, 0), *products(clip.outputs[0], x)]
    for product in reversed(candidates):
        if not close(product.coefficient * high, 1.0) or not fits(product.node, x):
            continue
        if product.power == 0:
            replace(product.node, "HardSigmoid", [x], {"alpha": alpha, "beta": 0.5})
            return True
        if product.power == 1 and alpha == _ALPHAS[0]:
            replace(product.node, "HardSwish", [x])
            return True
    return False


def _from_hard_sigmoid(node: ir.Node) -> bool:
    x = node.inputs[0]
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    if x is None or not close(alpha, _ALPHAS[0]) or not close(beta, 0.5):
        return False
    product = next(products(node.outputs[0], x), None)
    if product is None or product.power != 1 or product.coefficient != 1.0 or not fits(product.node, x):
        return False
    replace(product.node, "HardSwish", [x])
    return True
