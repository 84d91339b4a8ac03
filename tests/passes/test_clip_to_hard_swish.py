from __future__ import annotations

import numpy as np
import pytest

NUMBERS = {"zero": 0.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6, "one": 1.0, "half": 0.5, "fifth": 0.2, "two": 2.0}
CLIP = "a = Add(x, three)  c = Clip(a, zero, six)  "


def _build(graph, body, outputs="float[N, 8] y"):
    used = {k: np.float32(n) for k, n in NUMBERS.items() if any(f"{b}{k}{e}" in body for b in " (" for e in "),")}
    return graph("float[N, 8] x, float[N, 8] z", outputs, body, **used)


@pytest.mark.parametrize(
    ("body", "op"),
    [
        (CLIP + "m = Mul(x, c)  y = Div(m, six)", "HardSwish"),
        (CLIP + "d = Div(c, six)  y = Mul(x, d)", "HardSwish"),
        (CLIP + "m = Mul(c, x)  y = Mul(m, sixth)", "HardSwish"),
        (CLIP + "m = Mul(sixth, x)  y = Mul(m, c)", "HardSwish"),
        ("s = Mul(x, sixth)  a = Add(half, s)  c = Clip(a, zero, one)  y = Mul(x, c)", "HardSwish"),
        ("c = HardSigmoid<alpha = 0.16666667>(x)  y = Mul(c, x)", "HardSwish"),
        (CLIP + "y = Div(c, six)", "HardSigmoid"),
        (CLIP + "y = Mul(c, sixth)", "HardSigmoid"),
        ("s = Mul(x, fifth)  a = Add(s, half)  y = Clip(a, zero, one)", "HardSigmoid"),
    ],
)
def test_the_numbers_in_any_order(graph, check, body, op):
    result = check(_build(graph, body), "clip-to-hard-swish")
    assert [(node.op_type, node.name) for node in result.model.graph] == [(op, "n_y")]


def test_the_gate_of_another_value_is_a_hard_sigmoid(graph, check):
    result = check(_build(graph, CLIP + "d = Div(c, six)  y = Mul(d, z)"), "clip-to-hard-swish")
    assert [(node.op_type, node.name) for node in result.model.graph] == [("HardSigmoid", "n_d"), ("Mul", "n_y")]


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (CLIP + "m = Mul(c, x)  y = Div(m, two)", ""),
        ("a = Add(x, two)  c = Clip(a, zero, six)  y = Div(c, six)", ""),
        (CLIP + "d = Div(c, six)  y = Mul(x, d)", ", float[N, 8] c"),
        ("s = Mul(x, half)  a = Add(s, half)  y = Clip(a, zero, one)", ""),  # an image back from [-1, 1]
    ],
)
def test_other_numbers_stay_with_a_note(graph, check, body, outputs):
    model = _build(graph, body, f"float[N, 8] y{outputs}")
    assert "stays a Clip" in check(model, "clip-to-hard-swish", changes=False).notes[0]
