"""Bounds written as Min, Max and several Clips."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import constant, label, nodes, value_names
from dsedge.passes.match import fits, made_by, only_user, operands, replace, scalar

_BOUNDS = ("Relu", "Clip", "Min", "Max")


class MinMaxToClip(Pass):
    """Writes bounds by numbers as one Relu or Clip.

    What:
        Min and Max of a value and a number, Relu and Clip, one or several in a row, become one Clip, or Relu when the
        bounds are 0 and none. It takes the name of the last of them.
    Why:
        Relu6 is written as Min(Relu(x), 6) by TensorFlow's and Paddle's converters. Runtimes fuse a Clip or Relu into
        the convolution before it and have INT8 kernels for no other form.
    When not:
        The bound is no constant number, something else reads the value between, or x is not float32 of known rank.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites the bounds and notes those by values that are not numbers."""
        modified = False
        taken = value_names(model)
        for node in nodes(model):
            if node.op_type not in _BOUNDS or only_user(node.outputs[0], *_BOUNDS) is not None:
                continue
            found = _bounds(node)
            if found is None:
                self.notes.append(f"{label(node)} stays a {node.op_type}: it has no number as its bound")
            elif found[0] is not node.inputs[0] or node.op_type in ("Min", "Max") or _is_relu(node, *found):
                modified |= _rewrite(node, *found, taken)
        return ir.passes.PassResult(model, modified)


def _is_relu(node: ir.Node, _: ir.Value, low: float, high: float) -> bool:
    return node.op_type == "Clip" and (low, high) == (0.0, math.inf)


def _bounds(node: ir.Node) -> tuple[ir.Value, float, float] | None:
    """x and the bounds that a node puts to it, with those of the nodes before it; None when they are no numbers."""
    own = _own_bounds(node)
    if own is None:
        return None
    x, low, high = own
    before = made_by(x, *_BOUNDS)
    if before is None or only_user(x, *_BOUNDS) is not node:
        return own
    inner = _bounds(before)
    if inner is None:
        return own
    return inner[0], min(max(inner[1], low), high), max(min(inner[2], high), low)


def _own_bounds(node: ir.Node) -> tuple[ir.Value, float, float] | None:
    if node.op_type in ("Min", "Max"):
        for x, bound in operands(node):
            number = scalar(bound)
            if number is not None:
                return (x, number, math.inf) if node.op_type == "Max" else (x, -math.inf, number)
        return None
    x_or_none, *limits = node.inputs
    numbers = [scalar(limit) for limit in limits if limit is not None]
    if x_or_none is None or None in numbers:
        return None
    if node.op_type == "Relu":
        return x_or_none, 0.0, math.inf
    low = scalar(limits[0]) if limits else None
    high = scalar(limits[1]) if len(limits) > 1 else None
    low, high = -math.inf if low is None else low, math.inf if high is None else high
    return (x_or_none, low, high) if low <= high else None


def _rewrite(node: ir.Node, x: ir.Value, low: float, high: float, taken: set[str]) -> bool:
    if not fits(node, x) or node.graph is None:
        return False
    if (low, high) == (0.0, math.inf):
        replace(node, "Relu", [x])
        return True
    inputs: list[ir.Value | None] = [x]
    for name, bound in (("min", low), ("max", high)):
        if math.isinf(bound):
            inputs.append(None)
            continue
        inputs.append(constant(node.graph, f"{label(node)}.{name}", np.array(bound, np.float32), taken))
    replace(node, "Clip", inputs if inputs[-1] is not None else inputs[:-1])
    return True
