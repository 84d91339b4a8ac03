from __future__ import annotations

import numpy as np
import pytest

BRANCHES = (
    "If({}) <then_branch = t () => (float[2] v) {{ k = Constant<value = float[2] {{1.0, 2.0}}>()  v = Add(a, k) }},"
    " else_branch = e () => (float[2] v) {{ v = Sub(a, x) }}>"
)


@pytest.mark.parametrize(("condition", "op"), [(True, "Add"), (False, "Sub")])
@pytest.mark.parametrize("tail", ["y = ", "i = "])
def test_the_branch_that_is_taken_stays(graph, check, condition, op, tail):
    body = f"a = Relu(x)  {tail}{BRANCHES.format('c')}" + ("  y = Neg(i)" if tail == "i = " else "")
    result = check(graph("float[2] x", "float[2] y", body, c=np.array([condition])), "inline-branches")
    assert result.ops["If"] == 0
    assert result.ops[op] == 1
    assert result.ops[{"Add": "Sub", "Sub": "Add"}[op]] == 0


def test_names_inside_that_are_taken_outside(graph, check):
    # k and v are names of the outer graph too, in nodes that come after the If.
    body = f"a = Relu(x)  i = {BRANCHES.format('c')}  k = Neg(i)  v = Abs(k)  y = Add(v, k)"
    check(graph("float[2] x", "float[2] y", body, c=np.array(True)), "inline-branches")


def test_nested_branches(graph, check):
    inner = BRANCHES.format("c").replace("(float[2] v)", "(float[2] w)").replace("v =", "w =")
    body = (
        f"a = Relu(x)  y = If(c) <then_branch = t2 () => (float[2] v) {{ u = {inner}  v = Neg(u) }},"
        " else_branch = e2 () => (float[2] v) { v = Sub(a, x) }>"
    )
    assert check(graph("float[2] x", "float[2] y", body, c=np.array(True)), "inline-branches").ops["If"] == 0


def test_a_condition_that_depends_on_an_input_is_noted(graph, check):
    model = graph("float[2] x, bool b", "float[2] y", f"a = Relu(x)  y = {BRANCHES.format('b')}")
    result = check(model, "inline-branches", changes=False)
    assert result.notes == ["n_y stays an If: its condition depends on the inputs"]
