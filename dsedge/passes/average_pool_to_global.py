"""Pools over all of space."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import label, nodes
from dsedge.passes.match import replace


class AveragePoolToGlobal(Pass):
    """Writes AveragePool over a whole feature map as GlobalAveragePool.

    What:
        AveragePool whose kernel is as large as the static space of its input, without padding, becomes a
        GlobalAveragePool of the same name.
    Why:
        avg_pool2d(x, 7) at the end of a classifier is one; runtimes have a faster kernel for the global one, and it
        does not fix the size of the input.
    When not:
        The size of the input is not known, the kernel is smaller, or it pads.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites the pools and notes those of an input of unknown size."""
        modified = False
        for node in nodes(model):
            if node.op_type != "AveragePool" or node.inputs[0] is None:
                continue
            space = (dims(node.inputs[0]) or ())[2:]
            if not space or not all(isinstance(length, int) for length in space):
                self.notes.append(f"{label(node)} stays an AveragePool: the size of its input is not known")
            elif list(space) == list(node.attributes.get_ints("kernel_shape", [])) and _takes_no_more(node):
                replace(node, "GlobalAveragePool", [node.inputs[0]])
                modified = True
        return ir.passes.PassResult(model, modified)


def _takes_no_more(pool: ir.Node) -> bool:
    """Whether a pool has one window, with nothing but the input in it."""
    dilated = any(step != 1 for step in pool.attributes.get_ints("dilations", []))
    automatic = pool.attributes.get_string("auto_pad", "NOTSET")
    return not (dilated or any(pool.attributes.get_ints("pads", [])) or automatic not in ("NOTSET", "VALID"))
