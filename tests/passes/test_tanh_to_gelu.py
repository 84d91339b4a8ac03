from __future__ import annotations

import numpy as np
import pytest

NUMBERS = {"one": 1.0, "half": 0.5, "three": 3.0, "c": 0.044715, "s": 0.79788456, "cs": 0.044715 * 0.79788456}
TAIL = "t = Tanh(u)  a = Add(t, one)  "


def _build(graph, body):
    used = {name: np.float32(n) for name, n in NUMBERS.items() if f" {name})" in body or f"({name}," in body}
    return graph("float[N, 3, 8] x", "float[N, 3, 8] y", body, **used)


@pytest.mark.parametrize(
    "body",
    [
        "p = Pow(x, three)  q = Mul(c, p)  v = Add(x, q)  u = Mul(v, s)  " + TAIL + "h = Mul(x, half)  y = Mul(h, a)",
        "p = Mul(x, x)  r = Mul(p, x)  q = Mul(r, c)  v = Add(q, x)  u = Mul(s, v)  "
        + TAIL
        + "h = Mul(half, a)  y = Mul(x, h)",
        "p = Mul(x, x)  q = Mul(p, c)  v = Add(one, q)  w = Mul(x, s)  u = Mul(w, v)  "
        + TAIL
        + "m = Mul(x, a)  y = Mul(m, half)",
        "p = Pow(x, three)  q = Mul(cs, p)  v = Mul(x, s)  u = Add(v, q)  " + TAIL + "h = Mul(a, half)  y = Mul(h, x)",
    ],
)
def test_the_polynomial_in_any_form(graph, check, body):
    result = check(_build(graph, body), "tanh-to-gelu")
    assert [(node.op_type, node.name) for node in result.model.graph] == [("Gelu", "n_y")]
    assert result.model.graph[0].attributes.get_string("approximate") == "tanh"


CUBE = "p = Pow(x, three)  q = Mul(c, p)  v = Add(x, q)  "


def test_a_product_that_is_another_one_is_noted(graph, check):
    body = CUBE + "u = Mul(v, s)  " + TAIL + "y = Mul(x, a)"
    assert "n_t stays a Tanh" in check(_build(graph, body), "tanh-to-gelu", changes=False).notes[0]


@pytest.mark.parametrize(
    "body", [CUBE + "u = Mul(v, half)  " + TAIL + "h = Mul(x, half)  y = Mul(h, a)", "y = Tanh(x)"]
)
def test_another_tanh_is_left_alone(graph, check, body):
    assert check(_build(graph, body), "tanh-to-gelu", changes=False).notes == []
