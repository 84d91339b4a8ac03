"""If with a condition that is known."""

from __future__ import annotations

import onnx_ir as ir

from dsedge.passes.base import Pass
from dsedge.passes.edit import array, fresh, is_constant, label, nodes
from dsedge.passes.infer_shapes import InferShapes
from dsedge.passes.match import remove_unread


class InlineBranches(Pass):
    """Replaces If with a constant condition by the branch that it takes.

    What:
        The nodes and weights of the branch move in front of the If, the other branch is dropped, and shapes are
        inferred again. Names that are taken get a number.
    Why:
        torch exports squeeze() and hand-written shape checks as If. With the shapes known the condition is constant;
        but no contract looks into a branch, and the rank behind it is not known.
    When not:
        The condition depends on the inputs of the model.
    Cost:
        Linear in nodes; weights are not copied.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Inlines until no If has a constant condition."""
        modified = False
        while self._sweep(model):
            modified = True
        if modified:
            InferShapes()(model)
        return ir.passes.PassResult(model, modified)

    def _sweep(self, model: ir.Model) -> bool:
        self.notes.clear()
        modified = False
        for node in [node for node in nodes(model) if node.op_type == "If"]:
            condition = node.inputs[0]
            if node.graph is None:
                continue  # in a branch that was dropped
            if is_constant(condition) and array(condition).size == 1:
                _inline(node, node.graph, bool(array(condition).item()))
                modified = True
            else:
                self.notes.append(f"{label(node)} stays an If: its condition depends on the inputs")
        return modified


def _inline(node: ir.Node, graph: ir.Graph, condition: bool) -> None:
    branches = [node.attributes[name].as_graph() for name in ("else_branch", "then_branch")]
    taken, dropped = branches[condition], branches[not condition]
    names = {v.name for v in (*graph.inputs, *graph.initializers.values()) if v.name}
    names |= {v.name for other in graph for v in other.outputs if v.name}
    results = list(taken.outputs)
    taken.outputs.clear()
    for value in list(taken.initializers.values()):
        taken.initializers.pop(value.name or "")
        value.name = fresh(value.name or "constant", names)
        graph.register_initializer(value)
    moved = list(taken)
    taken.remove(moved)
    graph.insert_before(node, moved)
    for value in (v for other in moved for v in other.outputs if v.name):
        value.name = fresh(value.name or "value", names)
    for output, result in zip(node.outputs, results, strict=True):
        if output.is_graph_output():
            named = ir.Value(name=output.name, shape=output.shape, type=output.type)
            graph.insert_before(
                node, ir.node("Identity", [result], outputs=[named], name=f"{label(node)}_{output.name}")
            )
            output.replace_all_uses_with(named, replace_graph_outputs=True)
        else:
            output.replace_all_uses_with(result)
    for other in list(ir.traversal.RecursiveGraphIterator(dropped)):
        for index in range(len(other.inputs)):
            other.replace_input_with(index, None)
    makers = [value.producer() for value in node.inputs if value is not None]
    graph.remove(node, safe=True)
    remove_unread(*(maker for maker in makers if maker is not None))
