from __future__ import annotations

import numpy as np
import pytest

NUMBERS = {"one": np.float32(1), "minus": np.float32([-1]), "two": np.float32(2)}
EXP = "n = Neg(x)  e = Exp(n)  a = Add(e, one)  "


def _build(graph, body):
    used = {name: number for name, number in NUMBERS.items() if f" {name})" in body or f"({name}," in body}
    return graph("float[N, 8] x", "float[N, 8] y", body, **used)


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        (EXP + "y = Div(one, a)", ["Sigmoid"]),
        (EXP + "y = Reciprocal(a)", ["Sigmoid"]),
        ("n = Mul(x, minus)  e = Exp(n)  a = Add(one, e)  y = Div(one, a)", ["Sigmoid"]),
        (EXP + "y = Div(x, a)", ["Sigmoid", "Mul"]),
        (EXP + "r = Reciprocal(a)  y = Mul(x, r)", ["Sigmoid", "Mul"]),
        (EXP + "y = Div(two, a)", ["Sigmoid", "Mul"]),
    ],
)
def test_sigmoid_and_silu(graph, check, body, ops):
    result = check(_build(graph, body), "decomposed-sigmoid")
    assert [node.op_type for node in result.model.graph] == ops
    assert result.model.graph[-1].name == "n_y"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("e = Exp(x)  a = Add(e, one)  y = Div(one, a)", "not negated"),
        (EXP + "y = Div(a, two)", "not a divisor"),
        (EXP + "d = Div(one, a)  y = Add(d, a)", "not a divisor"),
    ],
)
def test_what_is_only_near_stays_with_a_note(graph, check, body, reason):
    assert reason in check(_build(graph, body), "decomposed-sigmoid", changes=False).notes[0]
