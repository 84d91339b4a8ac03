"""What nothing reads, and names."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes import common

from dsedge.passes.base import Pass
from dsedge.passes.edit import fresh


class CleanUp(Pass):
    """Removes what nothing reads, and gives every node and value a name of its own.

    What:
        Nodes, initializers, optional outputs and operator sets that are not used go. Duplicate names get a number;
        a node without a name takes the name of its first output. Names are unique over all subgraphs.
        Metadata and doc strings go: exporters write stack traces with the paths of a machine into them.
    Why:
        Plans, reports and errors find nodes and values by name, and ONNX Runtime refuses duplicate names of nodes.
    When not:
        Inputs of the graph stay, used or not, and so do the names of its inputs and outputs.
        Equal initializers are not merged: quantization and training give each its own scale.
    Cost:
        Linear in nodes and values; weights are not read.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Removes, then names."""
        modified = common.RemoveUnusedNodesPass()(model).modified
        modified |= _remove_initializers(model)
        modified |= common.RemoveUnusedOpsetsPass()(model).modified
        modified |= _forget(model)
        return ir.passes.PassResult(model, _name_values(model) | _name_nodes(model) | modified)


def _forget(model: ir.Model) -> bool:
    """Drops metadata and doc strings of the model, its graphs, nodes and values."""
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    values = list(dict.fromkeys([*_values(model), *(v for node in nodes for v in node.outputs)]))
    modified = False
    described: list[ir.Model | ir.Graph | ir.Node | ir.Value] = [model, *model.graphs(), *nodes, *values]
    for item in described:
        modified |= bool(item.metadata_props or item.doc_string)
        item.metadata_props.clear()
        item.doc_string = None
    return modified


def _remove_initializers(model: ir.Model) -> bool:
    modified = False
    for graph in model.graphs():
        for name, value in list(graph.initializers.items()):
            if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
                del graph.initializers[name]
                modified = True
    return modified


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """Every value, those first that keep their name where two have the same."""
    for graph in model.graphs():
        yield from (*graph.inputs, *graph.outputs, *graph.initializers.values())
        for node in graph:
            # An optional output that nobody asked for has no name, and must not get one.
            yield from (v for v in node.outputs if v.name or v.uses())


def _name_values(model: ir.Model) -> bool:
    taken: set[str] = set()
    seen: set[ir.Value] = set()
    modified = False
    for value in list(_values(model)):
        if value not in seen:
            seen.add(value)
            name = fresh(value.name or "value", taken)
            modified |= name != value.name
            value.name = name
    return modified


def _name_nodes(model: ir.Model) -> bool:
    taken: set[str] = set()
    modified = False
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        output = next((output.name for output in node.outputs if output.name), None)
        name = fresh(node.name or output or node.op_type, taken)
        modified |= name != node.name
        node.name = name
    return modified
