"""Mish written with Softplus and Tanh."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import label, nodes
from dsedge.passes.match import close, fits, made_by, plus_scalar, products, replace


class DecomposedMish(Pass):
    """Writes x * tanh(softplus(x)) as Mish.

    What:
        The Tanh of a Softplus of x, or of log(1 + exp(x)), times x becomes Mish, under the name of the product.
    Why:
        Below opset 18 there is no Mish. One operator is one kernel, and one entry of a contract.
    When not:
        Something else reads a value on the way, or x is not float32 of known rank.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites each Tanh of a Softplus, and notes those that are not multiplied by its argument."""
        modified = False
        for node in nodes(model):
            x = _softplus(node.inputs[0]) if node.op_type == "Tanh" else None
            if x is None:
                continue
            product = next(products(node.outputs[0], x), None)
            if product is not None and product.power == 1 and product.coefficient == 1.0 and fits(product.node, x):
                replace(product.node, "Mish", [x])
                modified = True
            else:
                self.notes.append(f"{label(node)} stays a Tanh: it is not multiplied by the argument of its Softplus")
        return ir.passes.PassResult(model, modified)


def _softplus(value: ir.Value | None) -> ir.Value | None:
    """x of a value softplus(x), or None."""
    softplus = made_by(value, "Softplus")
    if softplus is not None:
        return softplus.inputs[0]
    log = made_by(value, "Log")
    found = plus_scalar(log.inputs[0]) if log is not None else None
    exp = made_by(found[0], "Exp") if found is not None and close(found[1], 1.0) else None
    return exp.inputs[0] if exp is not None else None
