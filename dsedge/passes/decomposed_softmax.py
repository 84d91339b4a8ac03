"""Softmax written with Exp."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import label, nodes
from dsedge.passes.match import fits, made_by, only_user, replace, same_but_one
from dsedge.passes.moments import reduced_axes


class DecomposedSoftmax(Pass):
    """Writes exp(x) / sum(exp(x)) as Softmax.

    What:
        The quotient of exp(x) and its sum along one axis, with the dimension kept, becomes Softmax; with it goes the
        subtraction of the greatest element along the same axis where there is one. A Softmax between a Flatten and the
        Reshape back, which is how it comes from before opset 13, becomes one without them.
    Why:
        Converters of TensorFlow and hand-written attention write it out. A runtime has one kernel for Softmax, and a
        contract keeps it in float; a quantized Exp would lose the small terms.
    When not:
        The sum is over several axes or in another type, something else reads exp(x), or x is not float32 of known rank.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites the quotients and notes those of an Exp that are something else."""
        modified = False
        for node in nodes(model):
            modified |= node.op_type == "Reshape" and _unflatten(node)
            exp = made_by(node.inputs[0], "Exp") if node.op_type == "Div" else None
            if exp is None:
                continue
            if _rewrite(node, exp):
                modified = True
            else:
                self.notes.append(f"{label(node)} stays a Div: its divisor is not the sum of exp(x) along one axis")
        return ir.passes.PassResult(model, modified)


def _rewrite(div: ir.Node, exp: ir.Node) -> bool:
    total = made_by(div.inputs[1], "ReduceSum")
    axes = reduced_axes(total) if total is not None and total.inputs[0] is exp.outputs[0] else None
    x = exp.inputs[0]
    if axes is None or len(axes) != 1 or x is None or not fits(div, x):
        return False
    if len(exp.outputs[0].uses()) != 2 or exp.outputs[0].is_graph_output():
        return False
    difference = made_by(x, "Sub")
    greatest = made_by(difference.inputs[1], "ReduceMax") if difference is not None else None
    if difference is not None and greatest is not None and difference.inputs[0] is greatest.inputs[0]:
        x = difference.inputs[0] if reduced_axes(greatest) == axes else x
    replace(div, "Softmax", [x], {"axis": axes[0]})
    return True


def _unflatten(reshape: ir.Node) -> bool:
    """Takes a Softmax along the last axis out of the matrix that only that axis was kept in."""
    softmax = made_by(reshape.inputs[0], "Softmax")
    flatten = made_by(softmax.inputs[0], "Flatten") if softmax is not None else None
    target = made_by(reshape.inputs[1], "Shape")
    x = flatten.inputs[0] if flatten is not None else None
    shape = dims(x) if x is not None else None
    if softmax is None or flatten is None or x is None or shape is None:
        return False
    copied = target is not None and target.inputs[0] is x and not target.attributes
    back = copied or same_but_one(shape, dims(reshape.outputs[0]) or ())
    last = flatten.attributes.get_int("axis", 1) % len(shape) == len(shape) - 1
    only = only_user(softmax.outputs[0], "Reshape") is reshape
    if not (back and last and only and softmax.attributes.get_int("axis", -1) in (1, -1)):
        return False
    replace(reshape, "Softmax", [x], {"axis": -1})
    return True
