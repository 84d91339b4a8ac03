"""Topological order."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from dsedge.passes.base import Pass


class Sort(Pass):
    """Puts every node after the nodes it depends on.

    What:
        A stable topological sort of the graph and its subgraphs.
    Why:
        ONNX requires this order, but files exist that break it; every later pass walks the graph in order.
    When not:
        A sorted graph stays as it is. A graph with a cycle is an error.
    Cost:
        Linear in nodes and values.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Sorts the nodes."""
        return common.TopologicalSortPass()(model)
