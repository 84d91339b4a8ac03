"""Sigmoid written with Exp."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import fresh, label, nodes, value_names
from dsedge.passes.match import close, fits, made_by, only_user, other, replace, scalar, scaled


class DecomposedSigmoid(Pass):
    """Writes 1 / (1 + exp(-x)) as Sigmoid.

    What:
        1 / (1 + exp(-x)), with Div or Reciprocal, becomes Sigmoid(x), and v / (1 + exp(-x)) becomes v * Sigmoid(x):
        of x itself that is SiLU.
    Why:
        Sigmoid and Mul have INT8 kernels, Exp and Div do not; and exp overflows where Sigmoid does not.
    When not:
        Something else reads a value on the way, or x is not float32 of known rank.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites each Exp that is part of a Sigmoid and notes the others that 1 is added to."""
        modified = False
        taken = value_names(model)
        for node in nodes(model):
            add = only_user(node.outputs[0], "Add") if node.op_type == "Exp" else None
            if add is None or not close(scalar(other(add, node.outputs[0])), 1.0):
                continue
            reason = _rewrite(node, add, taken)
            if reason:
                self.notes.append(f"{label(node)} stays an Exp: {reason}")
            else:
                modified = True
        return ir.passes.PassResult(model, modified)


def _rewrite(exp: ir.Node, add: ir.Node, taken: set[str]) -> str | None:
    x = _negated(exp.inputs[0])
    if x is None:
        return "its argument is not negated"
    root = only_user(add.outputs[0], "Div", "Reciprocal")
    if root is None or root.inputs[-1] is not add.outputs[0]:
        return "1 + exp(-x) is not a divisor and nothing else"
    if not fits(add, x):
        return "its argument is not float32 of known rank"
    if root.op_type == "Reciprocal" or (close(scalar(root.inputs[0]), 1.0) and fits(root, x)):
        replace(root, "Sigmoid", [x])
        return None
    assert root.graph is not None
    output = ir.Value(name=fresh(f"{root.outputs[0].name}_sigmoid", taken), shape=x.shape, type=x.type)
    root.graph.insert_before(root, ir.node("Sigmoid", [x], outputs=[output], name=f"{label(root)}_sigmoid"))
    replace(root, "Mul", [root.inputs[0], output])
    return None


def _negated(value: ir.Value | None) -> ir.Value | None:
    """x of a value -x or x * -1."""
    neg = made_by(value, "Neg")
    if neg is not None:
        return neg.inputs[0]
    if value is None:
        return None
    x, factor = scaled(value)
    return x if factor == -1.0 else None
