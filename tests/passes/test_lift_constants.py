from __future__ import annotations


def test_constants_of_every_kind_are_lifted(graph, check):
    body = (
        "a = Constant<value = float[2] {1.0, 2.0}>()  b = Constant<value_float = 3.0>()  s = Add(x, a)  y = Mul(s, b)"
    )
    result = check(graph("float[2] x", "float[2] y", body), "lift-constants")
    assert sorted(result.model.graph.initializers) == ["a", "b"]
    assert result.ops["Constant"] == 0


def test_constants_inside_of_branches_are_lifted_in_place(graph, check):
    branch = "{n} () => (float[2] {n}y) {{ {n}c = Constant<value = float[2] {{1.0, 2.0}}>()  {n}y = Add(x, {n}c) }}"
    body = f"y = If(c) <then_branch = {branch.format(n='t')}, else_branch = {branch.format(n='e')}>"
    result = check(graph("float[2] x, bool c", "float[2] y", body), "lift-constants")
    assert result.ops["Constant"] == 0


def test_a_constant_output_stays(graph, check):
    body = "y = Constant<value = float[2] {1.0, 2.0}>()  z = Neg(x)"
    check(graph("float[2] x", "float[2] y, float[2] z", body), "lift-constants", changes=False)
