"""Sums of several values."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import bypass, fresh, label, nodes, value_names


class SumToAdd(Pass):
    """Writes Sum as Add.

    What:
        Sum of n values becomes n - 1 Adds, from left to right; the last one has the Sum's name.
    Why:
        Old exporters write residual connections as Sum, which no runtime runs in INT8; every contract has Add.
    When not:
        Sum of one value is removed instead.
    Cost:
        Linear in nodes. More than two values take memory for the partial sums.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrites every Sum."""
        modified = False
        taken = value_names(model)
        for node in nodes(model):
            if node.op_type == "Sum":
                modified |= _rewrite(node, taken)
        return ir.passes.PassResult(model, modified)


def _rewrite(node: ir.Node, taken: set[str]) -> bool:
    graph, old = node.graph, node.outputs[0]
    first, *rest = node.inputs
    assert graph is not None and first is not None
    if not rest:
        return bypass(node, first)
    total = first
    for index, term in enumerate(rest, 1):
        last = index == len(rest)
        output = ir.Value(name=old.name if last else fresh(f"{old.name}_{index}", taken), type=old.type)
        name = node.name if last else f"{label(node)}_{index}"
        add = ir.node("Add", [total, term], outputs=[output], name=name)
        graph.insert_before(node, add)
        total = output
    total.shape = old.shape
    old.replace_all_uses_with(total, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True
