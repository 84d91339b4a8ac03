"""Gelu written with Erf."""

from __future__ import annotations

import math

import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import label, nodes
from dsedge.passes.match import close, fits, only_user, other, products, replace, scalar, scaled


class ErfToGelu(Pass):
    """Writes x / 2 * (1 + erf(x / sqrt(2))) as Gelu.

    What:
        The Erf, the Add and the products around it become one Gelu, in any order of factors and operands, with
        divisions or multiplications. It takes the name of the last of them.
    Why:
        Below opset 20 there is no Gelu, so exporters write it out. One operator is one kernel in every runtime, one
        float island instead of five quantized nodes, and one line in a report.
    When not:
        The numbers are others, something else reads a value on the way, or x is not float32 of known rank.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites each Erf that is part of a Gelu and notes the others."""
        modified = False
        for node in nodes(model):
            if node.op_type != "Erf":
                continue
            if _rewrite(node):
                modified = True
            else:
                self.notes.append(f"{label(node)} stays an Erf: it is not part of x / 2 * (1 + erf(x / sqrt(2)))")
        return ir.passes.PassResult(model, modified)


def _rewrite(erf: ir.Node) -> bool:
    if erf.inputs[0] is None:
        return False
    x, factor = scaled(erf.inputs[0])
    add = only_user(erf.outputs[0], "Add")
    if not close(factor, math.sqrt(0.5)) or add is None or not close(scalar(other(add, erf.outputs[0])), 1.0):
        return False
    for product in products(add.outputs[0], x):
        if product.power == 1 and close(product.coefficient, 0.5) and fits(product.node, x):
            replace(product.node, "Gelu", [x])
            return True
    return False
