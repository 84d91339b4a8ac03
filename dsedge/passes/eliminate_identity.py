"""Nodes that hand on their input."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.model import static_shape
from dsedge.passes.base import Pass
from dsedge.passes.edit import array, bypass, ints, is_constant, label, nodes

# Operators that change the shape and keep the order of the elements.
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class EliminateIdentity(Pass):
    """Removes nodes that do nothing.

    What:
        Identity, Dropout in inference, Pad by zeros only, Cast to the same type, Transpose to the same order, Concat of
        one input, Reshape and Flatten to the same static shape. Of Reshapes in a row the last one stays.
    Why:
        They stand between operators that belong together: Conv, Identity, BatchNormalization does not fold, and a
        quantizer would put Q/DQ pairs around each of them.
    When not:
        The node connects an input, a constant or another output of the graph to an output: then it carries the name.
        Dropout in training mode or with a mask that is used. x + 0 and x * 1 stay, since they may broadcast.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Removes the nodes, or notes why one has to stay."""
        modified = False
        for node in nodes(model):
            while _skip_reshape(node):
                modified = True
            source = _source(node)
            if source is None:
                continue
            if bypass(node, source):
                modified = True
            else:
                self.notes.append(f"{label(node)} stays: it gives the output {node.outputs[0].name!r} its name")
        return ir.passes.PassResult(model, modified)


def _source(node: ir.Node) -> ir.Value | None:
    """The value that the first output of a node equals, or None."""
    if not node.inputs or node.inputs[0] is None:
        return None
    source = node.inputs[0]
    match node.op_type:
        case "Identity":
            same = True
        case "Dropout":
            mode = node.inputs[2] if len(node.inputs) > 2 else None
            training = mode is not None and not (is_constant(mode) and not array(mode).any())
            same = not training and not any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
        case "Pad":
            pads = ints(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("pads")
            same = pads is not None and not any(pads)
        case "Cast":
            same = source.dtype is not None and source.dtype == node.attributes.get_int("to")
        case "Transpose":
            perm = node.attributes.get_ints("perm")
            same = perm is not None and list(perm) == list(range(len(perm)))
        case "Concat":
            same = len(node.inputs) == 1
        case "Reshape" | "Flatten":
            shape = static_shape(source)
            same = shape is not None and shape == static_shape(node.outputs[0])
        case _:
            same = False
    return source if same else None


def _skip_reshape(node: ir.Node) -> bool:
    """Lets a Reshape read what the reshaping before it reads; a 0 in its target copies an axis, so that one stays."""
    before = node.inputs[0].producer() if node.op_type == "Reshape" and node.inputs[0] is not None else None
    if before is None or before.domain != "" or before.op_type not in _RESHAPES:
        return False
    target = ints(node.inputs[1])
    if not target or 0 in target:
        return False
    node.replace_input_with(0, before.inputs[0])
    return True
