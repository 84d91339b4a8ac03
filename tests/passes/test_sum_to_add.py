from __future__ import annotations


def test_sums_become_adds(graph, check):
    result = check(graph("float[2, 3] x, float[3] z", "float[2, 3] y", "a = Relu(x)  y = Sum(a, x, z)"), "sum-to-add")
    assert result.ops == {"Relu": 1, "Add": 2}
    assert result.names("Add") == ["n_y_1", "n_y"]


def test_a_sum_of_one_is_removed(graph, check):
    assert check(graph("float[2] x", "float[2] y", "a = Sum(x)  y = Neg(a)"), "sum-to-add").ops == {"Neg": 1}
    check(graph("float[2] x", "float[2] y", "y = Sum(x)"), "sum-to-add", changes=False)
