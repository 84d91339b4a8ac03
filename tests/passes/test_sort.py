from __future__ import annotations


def test_an_unsorted_graph_is_sorted(graph, check):
    result = check(graph("float[2] x", "float[2] y", "y = Neg(a)  a = Relu(x)"), "sort")
    assert [node.op_type for node in result.model.graph] == ["Relu", "Neg"]


def test_a_sorted_graph_keeps_its_order(graph, check):
    result = check(graph("float[2] x", "float[2] y", "b = Neg(x)  a = Relu(x)  y = Add(a, b)"), "sort", changes=False)
    assert [node.op_type for node in result.model.graph] == ["Neg", "Relu", "Add"]
