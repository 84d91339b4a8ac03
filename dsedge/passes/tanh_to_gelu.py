"""Gelu written with Tanh."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import label, nodes
from dsedge.passes.match import close, fits, made_by, only_user, other, polynomial, products, replace, scalar

_POLYNOMIAL = math.sqrt(2 / math.pi) * np.array([0.044715, 0.0, 1.0, 0.0])
_REACH = 6  # nodes between x and the Tanh


class TanhToGelu(Pass):
    """Writes x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) as Gelu with approximate="tanh".

    What:
        The Tanh, the polynomial before and the products behind it become one Gelu, however the polynomial is written
        out (Pow, x * x * x, x * (1 + 0.044715 x^2)). It takes the name of the last product.
    Why:
        As for erf-to-gelu; GPT-2, ALBERT and TensorFlow's BERT write this form (Hendrycks and Gimpel, "Gaussian Error
        Linear Units", 2016).
    When not:
        The numbers are others, something else reads a value on the way, or x is not float32 of known rank.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites each Tanh that is part of a Gelu and notes those that are only near it."""
        modified = False
        for node in nodes(model):
            x = _argument(node.inputs[0]) if node.op_type == "Tanh" and node.inputs[0] is not None else None
            if x is None:
                continue
            if _rewrite(node, x):
                modified = True
            else:
                self.notes.append(f"{label(node)} stays a Tanh: 1 + tanh is not multiplied by x / 2 and nothing else")
        return ir.passes.PassResult(model, modified)


def _argument(value: ir.Value) -> ir.Value | None:
    """The x of which a value is Gelu's polynomial, or None."""
    front = [value]
    for _ in range(_REACH):
        makers = [made_by(v, "Add", "Mul", "Div", "Pow") for v in front]
        front = list(dict.fromkeys(v for node in makers if node is not None for v in node.inputs if v is not None))
        for x in front:
            found = polynomial(value, x)
            if found is not None and found.order == 3 and np.allclose(found.coeffs, _POLYNOMIAL, rtol=1e-3, atol=1e-6):
                return x
    return None


def _rewrite(tanh: ir.Node, x: ir.Value) -> bool:
    add = only_user(tanh.outputs[0], "Add")
    if add is None or not close(scalar(other(add, tanh.outputs[0])), 1.0):
        return False
    for product in products(add.outputs[0], x):
        if product.power == 1 and close(product.coefficient, 0.5) and fits(product.node, x):
            replace(product.node, "Gelu", [x], {"approximate": "tanh"})
            return True
    return False
