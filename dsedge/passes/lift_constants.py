"""Constant nodes."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from dsedge.passes.base import Pass


class LiftConstants(Pass):
    """Turns Constant nodes into initializers.

    What:
        Every Constant node, of whatever size and attribute, becomes an initializer of the name of its output.
    Why:
        Weights come as either; one form is enough for every pass after this one.
    When not:
        The constant is itself an output of a graph. Sparse tensors stay.
    Cost:
        Linear in nodes; weights are not copied.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lifts the constants of the graph and its subgraphs."""
        return common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
