"""Operators that move or select codes, in the layout in which ONNX Runtime's INT8 convolutions write them.

The optimizer lays INT8 convolutions out with the channels innermost and cancels the Transpose nodes between them. Few
other operators follow it there by themselves. So these are written on the codes, between Transpose nodes of their own:

- MaxPool: the kernel for channels that lie outermost takes one code at a time, several times slower than the float
  one. The optimizer picks the other kernel only directly behind a convolution.
- DepthToSpace: the runtime moves one code at a time. With the channels innermost, and those of a sub-pixel side by side
  (mode DCR), whole rows of codes move.
- ReduceMax: has a kernel for codes, but its Q/DQ pattern is not known to the optimizer.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.onnxruntime.blocks import DOMAIN
from dsedge.model import dims
from dsedge.passes.edit import constant, fresh

_LEAST_CHANNELS = 4
"""A DepthToSpace to fewer moves rows so short that the runtime's own is faster."""

_POOL = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def on_codes(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The DequantizeLinear before a node that is written on codes, and the QuantizeLinear that alone reads it."""
    if node.domain or not node.inputs or node.inputs[0] is None or node.outputs[0].is_graph_output():
        return None
    if not _taken(node):
        return None
    before, behind = node.inputs[0].producer(), list(node.outputs[0].consumers())
    if before is None or before.op_type != "DequantizeLinear" or len(behind) != 1:
        return None
    if behind[0].op_type != "QuantizeLinear" or behind[0].inputs[1:] != before.inputs[1:]:
        return None
    return before, behind[0]


def _taken(node: ir.Node) -> bool:
    value = node.inputs[0]
    shape = dims(value) if value is not None else None
    if node.op_type == "MaxPool":
        return shape is not None and len(shape) > 2 and len(node.outputs) == 1
    if node.op_type == "DepthToSpace" and node.attributes.get_string("mode", "DCR") == "DCR" and shape is not None:
        block = node.attributes.get_int("blocksize", 1)
        return isinstance(shape[1], int) and isinstance(shape[3], int) and shape[1] >= _LEAST_CHANNELS * block * block
    return node.op_type == "ReduceMax"


def move_codes(graph: ir.Graph, node: ir.Node, before: ir.Node, behind: ir.Node, taken: set[str]) -> None:
    """Write a node on the codes that it reads through `before`, and drop the conversions.

    Args:
        graph: holds the nodes.
        node: one for which `on_codes` gave the other two.
        before: the DequantizeLinear; removed when nothing else reads it.
        behind: the QuantizeLinear; removed.
        taken: names of values that are in use; new ones are added.
    """
    codes = before.inputs[0]
    assert codes is not None
    if node.op_type == "ReduceMax":
        attributes = {
            name: node.attributes[name] for name in ("keepdims", "noop_with_empty_axes") if name in node.attributes
        }
        steps = [ir.node("ReduceMax", [codes, *node.inputs[1:]], attributes, name=node.name)]
    elif node.op_type == "MaxPool":
        assert codes.shape is not None
        space = range(2, len(codes.shape))
        steps = [_transpose(codes, [0, *space, 1], f"{node.name}_last")]
        attributes = {name: node.attributes[name] for name in _POOL if name in node.attributes}
        steps.append(ir.node("NhwcMaxPool", steps[-1].outputs, attributes, domain=DOMAIN, name=node.name))
        steps.append(
            _transpose(steps[-1].outputs[0], [0, 1 + len(space), *(i - 1 for i in space)], f"{node.name}_first")
        )
    else:
        steps = _spread(graph, node, codes, taken)
    for step in steps:
        step.outputs[0].name, step.outputs[0].type = fresh(f"{step.name}_codes", taken), codes.type
    steps[-1].outputs[0].shape = behind.outputs[0].shape
    graph.insert_before(node, steps)
    behind.outputs[0].replace_all_uses_with(steps[-1].outputs[0], replace_graph_outputs=True)
    for old in (behind, node):
        graph.remove(old, safe=True)
    if not before.outputs[0].uses():
        graph.remove(before, safe=True)


def _spread(graph: ir.Graph, node: ir.Node, codes: ir.Value, taken: set[str]) -> list[ir.Node]:
    """[N, H, W, rows of a block, columns of a block and channels] -> [N, H, rows, W, columns and channels]."""
    block, shape, name = node.attributes.get_int("blocksize", 1), dims(codes), node.name
    assert shape is not None and isinstance(shape[1], int) and isinstance(shape[3], int)
    channels = shape[1] // block**2
    apart = constant(graph, f"{name}_apart", np.array([0, 0, 0, block, block * channels], np.int64), taken)
    joined = constant(graph, f"{name}_joined", np.array([0, -1, shape[3] * block, channels], np.int64), taken)
    last = _transpose(codes, _LAST, f"{name}_last")
    split = ir.node("Reshape", [last.outputs[0], apart], name=f"{name}_split")
    swapped = _transpose(split.outputs[0], [0, 1, 3, 2, 4], f"{name}_swapped")
    merged = ir.node("Reshape", [swapped.outputs[0], joined], name=f"{name}_merged")
    return [last, split, swapped, merged, _transpose(merged.outputs[0], _FIRST, f"{name}_first")]


def _transpose(value: ir.Value, perm: list[int], name: str) -> ir.Node:
    return ir.node("Transpose", [value], {"perm": perm}, name=name)
