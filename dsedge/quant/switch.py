"""Switch: edges of a Q/DQ graph that read real numbers instead, one set of edges after another."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from dsedge.passes.edit import array, constant, value_names
from dsedge.quant.insert import is_rounded, routes
from dsedge.quant.plan import QuantPlan

Edge = tuple[str, int]
"""A node by its name and which of its inputs; an output of the graph is ("", which)."""


def quantized_edges(graph: ir.Graph, plan: QuantPlan) -> set[Edge]:
    """The edges of a float graph on which `insert` puts a quantizer, those to weights and biases included.

    Nodes in the bodies of others are left out.
    """
    nodes = list(graph)
    written, reads = routes(nodes, plan)
    edges = {(node.name or "", i) for name in plan.values for node, i in reads.get(name, [])}
    for node in nodes:
        name = node.name or ""
        own = plan.nodes[name]
        if own.precision == "bf16":
            edges |= {(name, i) for i, value in enumerate(node.inputs) if value is not None and is_rounded(value)}
        elif own.head is None:
            edges |= {(name, i) for i in (*own.weights, own.bias) if i is not None}
        for value in node.outputs:
            if value.name in written and value.name in plan.values:
                edges |= {(use.node.name or "", use.idx) for use in value.uses() if use.node.graph is graph}
                edges |= {("", i) for i, output in enumerate(graph.outputs) if output is value}
    return edges


def with_reals(qdq: ir.Model, floats: ir.Model, edges: Collection[Edge]) -> tuple[ir.Model, dict[Edge, str]]:
    """Put the real numbers of edges beside what they read in a Q/DQ graph.

    Args:
        qdq: from `insert`; left as it is.
        floats: the float graph that it was made of.
        edges: some of `quantized_edges`.

    Returns:
        A copy with the float graph's constants of these edges, which nothing reads yet; and for each edge the name of
        the value that it is to read instead.
    """
    model = qdq.clone()
    taken = value_names(model)
    copies, originals = ({node.name: node for node in g} for g in (model.graph, floats.graph))
    names: dict[Edge, str] = {}
    constants: dict[str, ir.Value] = {}
    for name, index in sorted(edges):
        original = originals[name].inputs[index] if name else None
        if original is not None and original.const_value is not None:
            own = original.name or ""
            if own not in constants:
                constants[own] = constant(model.graph, f"{own}_real", array(original), taken)
            value = constants[own]
        else:
            read = copies[name].inputs[index] if name else model.graph.outputs[index]
            value = _source(_source(read))
        names[name, index] = value.name or ""
    return model, names


def _source(value: ir.Value | None) -> ir.Value:
    """What one half of a quantizer makes a value of."""
    producer = value.producer() if value is not None else None
    assert producer is not None and producer.inputs[0] is not None, "a quantizer stands on the edge"
    return producer.inputs[0]
