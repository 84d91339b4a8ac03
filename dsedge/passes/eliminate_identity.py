"""Nodes that hand on their input."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import FLOATS, array, bypass, ints, is_constant, label, nodes
from dsedge.passes.match import made_by, operands, same_but_one, scalar

# Operators that change the shape and keep the order of the elements.
_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class EliminateIdentity(Pass):
    """Removes nodes that do nothing.

    What:
        Identity, Dropout in inference, Cast to the same type, Transpose to the same order, Concat, Split, Sum, Mean,
        Max and Min of one value, Pad by nothing, Slice of everything, Tile and Resize by one, Expand to the same shape,
        Where with a condition that is always the same, x + 0, x - 0, x * 1, x / 1 and x ** 1, reshapings to the shape
        that a value has or had. Of Reshapes in a row the last one stays.
    Why:
        They stand between operators that belong together: Conv, Identity, BatchNormalization does not fold, and a
        quantizer would put Q/DQ pairs around each of them.
    When not:
        The node connects an input, a constant or another output of the graph to an output: then it carries the name.
        Dropout in training mode or with a mask that is used. Where the other operand or a computed shape may broadcast
        the value.
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
    source, output = node.inputs[0], node.outputs[0]
    match node.op_type:
        case "Identity":
            same = True
        case "Dropout":
            ratio, mode = [*node.inputs[1:], None, None][:2]
            training = mode is not None and not (is_constant(mode) and not array(mode).any()) and scalar(ratio) != 0.0
            same = not training and not any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
        case "Pad":
            pads = ints(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("pads")
            same = pads is not None and not any(pads)
        case "Cast":
            same = source.dtype is not None and source.dtype == node.attributes.get_int("to")
        case "Transpose":
            perm = node.attributes.get_ints("perm")
            same = perm is not None and list(perm) == list(range(len(perm)))
        case "Concat" | "Sum" | "Mean" | "Max" | "Min":
            same = len(node.inputs) == 1
        case "Split":
            same = len(node.outputs) == 1
        case "Tile":
            same = set(ints(node.inputs[1]) or [0]) == {1}
        case "Slice":
            steps = ints(node.inputs[4]) if len(node.inputs) > 4 else [1]
            same = steps is not None and min(steps, default=1) > 0 and _same_shape(source, output)
        case "Expand":
            same = _same_shape(source, output)
        case "Resize":
            same = _resizes_by_one(node) and _same_shape(source, output)
        case "Add" | "Mul" | "Sub" | "Div" | "Pow":
            return _without_neutral(node)
        case "Where":
            chosen = _always(node)
            return chosen if chosen is not None and _same_shape(chosen, output) else None
        case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze":
            return _same_reshaped(node)
        case _:
            same = False
    return source if same else None


def _same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values are known to have one shape: equal numbers and names."""
    shape = dims(a)
    return shape is not None and None not in shape and shape == dims(b)


def _resizes_by_one(node: ir.Node) -> bool:
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    unscaled = len(node.inputs) > 3 if scales is None else is_constant(scales) and bool((array(scales) == 1).all())
    return unscaled and node.attributes.get_string("coordinate_transformation_mode") != "tf_crop_and_resize"


def _without_neutral(node: ir.Node) -> ir.Value | None:
    """The operand of an operation on floats whose other operand is constant and changes neither value nor shape."""
    neutral = 0 if node.op_type in ("Add", "Sub") else 1
    pairs = operands(node) if node.op_type in ("Add", "Mul") else ((node.inputs[0], node.inputs[1]),)
    for x, number in pairs:
        if x is None or x.dtype not in FLOATS or not is_constant(number) or number.const_value is None:
            continue
        shape = dims(x)
        spread = number.const_value.size > 1 or shape is None or number.const_value.shape.rank() > len(shape)
        if (not spread or _same_shape(x, node.outputs[0])) and bool((array(number) == neutral).all()):
            return x
    return None


def _always(node: ir.Node) -> ir.Value | None:
    """What a Where with a constant condition chooses everywhere."""
    condition = node.inputs[0]
    if not is_constant(condition) or array(condition).size == 0:
        return None
    data = array(condition)
    return node.inputs[1] if data.all() else None if data.any() else node.inputs[2]


def _same_reshaped(node: ir.Node) -> ir.Value | None:
    """The value before a row of reshapings that has the shape which the last one makes."""
    value, shape = node.inputs[0], dims(node.outputs[0])
    while value is not None and shape is not None:
        if same_but_one(dims(value), shape):
            return value
        before = made_by(value, *_RESHAPES)
        value = before.inputs[0] if before is not None and before.graph is node.graph else None
    return None


def _skip_reshape(node: ir.Node) -> bool:
    """Lets a Reshape read what the reshaping before it reads; a 0 in its target copies an axis, so that one stays.

    A Transpose that moves axes of length 1 only is a reshaping too.
    """
    before = made_by(node.inputs[0], *_RESHAPES, "Transpose") if node.op_type == "Reshape" else None
    target = ints(node.inputs[1]) if before is not None else None
    if before is None or not target or 0 in target or (before.op_type == "Transpose" and not _moves_ones(before)):
        return False
    node.replace_input_with(0, before.inputs[0])
    return True


def _moves_ones(transpose: ir.Node) -> bool:
    shape, perm = dims(transpose.outputs[0]), transpose.attributes.get_ints("perm")
    if shape is None or perm is None:
        return False
    longer = [axis for axis, length in zip(perm, shape, strict=True) if length != 1]
    return longer == sorted(longer)
