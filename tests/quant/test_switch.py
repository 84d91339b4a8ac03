from __future__ import annotations

from flow import contract, quantized
from graphs import chain

from dsedge.quant.annotate import annotate
from dsedge.quant.switch import quantized_edges, with_reals


def test_the_edges_are_those_that_insert_quantizes() -> None:
    made = quantized(chain(), contract())
    edges = quantized_edges(made.graph.graph, made.plan)
    nodes = {node.name: node for node in made.model.graph}
    found = {
        (node.name, i)
        for node in made.graph.graph
        for i, value in enumerate(nodes[node.name].inputs)
        if value is not None and value.producer() is not None and value.producer().op_type == "DequantizeLinear"
    }
    outputs = {
        ("", i)
        for i, value in enumerate(made.model.graph.outputs)
        if value.producer() is not None and value.producer().op_type == "DequantizeLinear"
    }
    assert edges == found | outputs and len(edges) > 6
    floats = annotate(made.graph.graph, contract(), lifted=dict.fromkeys(nodes, "a test"))
    assert quantized_edges(made.graph.graph, floats) == set()


def test_the_real_numbers_stand_beside_the_codes() -> None:
    made = quantized(chain(), contract())
    edges = quantized_edges(made.graph.graph, made.plan)
    both, names = with_reals(made.model, made.graph, edges)
    assert names.keys() == edges
    values = {v.name for node in both.graph for v in node.outputs} | {v.name for v in both.graph.inputs}
    assert set(names.values()) <= values | set(both.graph.initializers)
    assert [node.op_type for node in both.graph] == [node.op_type for node in made.model.graph]
    added = set(both.graph.initializers) - set(made.model.graph.initializers)
    assert added and not any(both.graph.initializers[name].uses() for name in added)
