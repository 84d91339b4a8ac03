"""Reshape with a target that is computed in the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsedge.model import Dim, dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import fresh, is_constant, label, nodes, set_constant, value_names
from dsedge.passes.infer_shapes import InferShapes


class StaticReshape(Pass):
    """Gives Reshape a constant target where all axes but one are known.

    What:
        The target becomes the inferred shape of the output, with -1 for the one axis that is not a number. Of two such
        axes one may be the only dynamic axis of the input: then the other follows from the number of elements.
    Why:
        `x.view(x.size(0), -1)` is exported as Shape, Gather, Concat and Reshape. Runtimes for microcontrollers and
        NPUs have no such operators, and with them in the graph no shape behind is known.
    When not:
        Two or more axes are open, or one has no elements.
    Cost:
        Linear in nodes; a shape inference a sweep.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites targets until nothing changes."""
        modified = False
        taken = value_names(model)
        while self._sweep(model, taken):
            modified = True
            InferShapes()(model)
        return ir.passes.PassResult(model, modified)

    def _sweep(self, model: ir.Model, taken: set[str]) -> bool:
        self.notes.clear()
        modified = False
        for node in nodes(model):
            if node.op_type != "Reshape" or is_constant(node.inputs[1]):
                continue
            x = node.inputs[0]
            target = _target(dims(x) if x is not None else None, dims(node.outputs[0]))
            if target is None:
                self.notes.append(f"{label(node)}: more than one axis of its output is only known as the model runs")
            else:
                set_constant(node, 1, np.array(target, np.int64), fresh(f"{node.outputs[0].name}_shape", taken))
                modified = True
        return modified


def _target(source: Sequence[Dim] | None, result: Sequence[Dim] | None) -> list[int] | None:
    if result is None or 0 in result:
        return None
    known = [dim if isinstance(dim, int) else -1 for dim in result]
    open_axes = [axis for axis, dim in enumerate(known) if dim == -1]
    if len(open_axes) <= 1:
        return known
    dynamic = [dim for dim in source or () if not isinstance(dim, int)]
    if len(open_axes) > 2 or len(dynamic) != 1 or dynamic[0] is None:
        return None
    # source has a elements by n, result b by n by the open axis: that one is a / b.
    follows = [axis for axis in open_axes if result[axis] != dynamic[0]]
    a = math.prod(dim for dim in source or () if isinstance(dim, int))
    b = math.prod(dim for dim in known if dim != -1)
    if len(follows) != 1 or a == 0 or a % b:
        return None
    known[follows[0]] = a // b
    return known
