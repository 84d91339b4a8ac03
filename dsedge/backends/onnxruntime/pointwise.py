"""Pointwise convolutions whose result is wanted in float: the head of a detector, the logits of a segmentation.

QLinearConv writes codes only. One scale for all channels would then hold box offsets, objectness and class scores
together, to be widened at once. QGemm, the same product, writes float: no rounding at the end, and no conversion. It
reads a matrix of pixels, with the channels innermost, which is how INT8 convolutions lie in memory anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.backends.onnxruntime.blocks import DOMAIN, initializer
from dsedge.backends.onnxruntime.contract import FUSIONS, is_pointwise
from dsedge.model import Dim, dims
from dsedge.passes.edit import constant, fresh


def pointwise_to_float(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The DequantizeLinear of the input and that of the weight of an INT8 convolution whose result stays float."""
    users = list(node.outputs[0].consumers())
    users += [behind for user in users if user.op_type in FUSIONS["Conv"] for behind in user.outputs[0].consumers()]
    if not is_pointwise(node) or any(user.op_type == "QuantizeLinear" for user in users):
        return None
    x, weight, bias = (v.producer() if v is not None else None for v in (*node.inputs, None)[:3])
    if x is None or weight is None or {x.op_type, weight.op_type} != {"DequantizeLinear"}:
        return None
    if len(node.inputs) > 2 and (bias is None or bias.op_type != "DequantizeLinear"):
        return None
    needed = (*x.inputs[1:], *weight.inputs, *(bias.inputs[:1] if bias is not None else ()))
    known = [v.const_value for v in needed if v is not None and v.const_value is not None]
    if len(x.inputs) != 3 or len(weight.inputs) != 3 or len(known) != len(needed):
        return None
    return (x, weight) if known[0].size == 1 else None


def as_product(graph: ir.Graph, node: ir.Node, x: ir.Node, weight: ir.Node, taken: set[str]) -> None:
    """Put QGemm on a matrix of pixels where the convolution was.

    The result goes back to [N, channels, H, W]; where a Reshape and a Transpose behind it take the channels apart, as
    detectors do with anchors, straight into the order that they make.
    """
    result, source = node.outputs[0], x.inputs[0]
    shape = dims(node.inputs[0]) if node.inputs[0] is not None else None
    codes, scale, zero_point = weight.inputs
    assert source is not None and shape is not None and codes is not None and codes.const_value is not None
    numbers = codes.const_value.numpy()
    matrix = initializer(graph, f"{codes.name}_matrix", numbers.reshape(len(numbers), -1))
    bias = node.inputs[2].producer() if len(node.inputs) > 2 and node.inputs[2] is not None else None
    constants = [*x.inputs[1:], matrix, scale, zero_point, *(bias.inputs[:1] if bias is not None else ())]
    made: list[ir.Node] = []

    def add(op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any], suffix: str) -> ir.Value:
        domain = DOMAIN if op_type == "QGemm" else ""
        new = ir.node(op_type, inputs, attributes, domain=domain, name=f"{node.name}{suffix}")
        new.outputs[0].name = fresh(f"{result.name}{suffix}", taken)
        made.append(new)
        return new.outputs[0]

    def reshape(value: ir.Value, lengths: Sequence[Dim], suffix: str) -> ir.Value:
        target = np.array([d if isinstance(d, int) else -1 for d in lengths], np.int64)
        return add("Reshape", [value, constant(graph, f"{result.name}{suffix}_shape", target, taken)], {}, suffix)

    pixels = add("Transpose", [source], {"perm": [0, 2, 3, 1]}, "_pixels")
    product = add("QGemm", [reshape(pixels, [-1, shape[1]], "_rows"), *constants], {"transB": 1}, "")
    size, split = (shape[0], *shape[2:]), _taken_apart(result)
    if split is None:
        wide = reshape(product, [*size, len(numbers)], "_map")
        new, gone = add("Transpose", [wide], {"perm": [0, 3, 1, 2]}, "_channels"), [node]
    else:
        parts, perm, behind = split
        order = [(0, 3, 4, 1, 2)[p] for p in perm]  # where N, anchors, numbers, H and W lie now
        wide = reshape(product, [*size, *parts], "_map")
        new, gone = add("Transpose", [wide], {"perm": order}, "_apart"), [*behind, node]
    old = gone[0].outputs[0]
    new.type, new.shape, name = old.type, old.shape, old.name
    graph.insert_before(node, made)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    for each in gone:
        graph.remove(each, safe=True)
    old.name, new.name = None, name
    for unread in (x, weight, *([bias] if bias is not None else [])):
        if not unread.outputs[0].uses() and not unread.outputs[0].is_graph_output():
            graph.remove(unread, safe=True)


def _taken_apart(value: ir.Value) -> tuple[list[Dim], tuple[int, ...], list[ir.Node]] | None:
    """Anchors and numbers, the order behind them, and the Transpose and Reshape to [N, anchors, numbers, H, W].

    None when those two nodes are not all that follows a value.
    """
    reshape, shape = _only_user(value, "Reshape"), dims(value)
    transpose = _only_user(reshape.outputs[0], "Transpose") if reshape is not None else None
    if reshape is None or transpose is None or shape is None:
        return None
    apart = dims(reshape.outputs[0])
    if apart is None or len(apart) != 5 or apart[0] != shape[0] or apart[3:] != shape[2:]:
        return None
    perm = tuple(transpose.attributes.get_ints("perm", (4, 3, 2, 1, 0)))
    return list(apart[1:3]), perm, [transpose, reshape]


def _only_user(value: ir.Value, op_type: str) -> ir.Node | None:
    users = value.uses()
    if value.is_graph_output() or len(users) != 1:
        return None
    (use,) = users
    return use.node if use.node.op_type == op_type and not use.node.domain and use.idx == 0 else None
