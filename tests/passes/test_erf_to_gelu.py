from __future__ import annotations

import numpy as np
import pytest

X = "float[N, 3, 8] x"
NUMBERS = {"one": np.float32(1), "half": np.float32(0.5), "two": np.float32([2]), "r": np.float32(1.4142135)}
NUMBERS |= {"i": np.float32(0.70710678), "rough": np.float32(np.float16(1.4142135)), "third": np.float32(0.33)}


def _build(graph, body, outputs="float[N, 3, 8] y"):
    used = {name: number for name, number in NUMBERS.items() if f" {name})" in body or f"({name}," in body}
    return graph(X, outputs, body, **used)


ERF = "d = Div(x, r)  e = Erf(d)  a = Add(e, one)  "


@pytest.mark.parametrize(
    "body",
    [
        ERF + "m = Mul(x, a)  y = Mul(m, half)",  # torch
        ERF + "h = Mul(x, half)  y = Mul(h, a)",  # torch, dynamo
        ERF + "h = Mul(half, a)  y = Mul(x, h)",  # TensorFlow: x * cdf
        ERF + "h = Mul(half, x)  y = Mul(a, h)",
        ERF + "m = Mul(a, x)  y = Div(m, two)",
        "d = Mul(i, x)  e = Erf(d)  a = Add(one, e)  h = Div(x, two)  y = Mul(a, h)",
    ],
)
def test_a_gelu_in_any_order(graph, check, body):
    result = check(_build(graph, body), "erf-to-gelu")
    assert [(node.op_type, node.name) for node in result.model.graph] == [("Gelu", "n_y")]


def test_numbers_that_were_rounded_to_half_precision(graph, check):
    body = "d = Div(x, rough)  e = Erf(d)  a = Add(one, e)  m = Mul(x, a)  y = Mul(half, m)"
    assert check(_build(graph, body), "erf-to-gelu", atol=1e-4).ops == {"Gelu": 1}


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (ERF + "m = Mul(x, a)  y = Mul(m, third)", ""),
        (ERF + "z = Neg(x)  m = Mul(z, a)  y = Mul(m, half)", ""),
        (ERF + "m = Mul(x, a)  y = Mul(m, half)", ", float[N, 3, 8] a"),
        ("d = Div(x, two)  e = Erf(d)  a = Add(e, one)  m = Mul(x, a)  y = Mul(m, half)", ""),
        (ERF + "m = Div(x, a)  y = Mul(m, half)", ""),
    ],
)
def test_what_is_only_near_stays_with_a_note(graph, check, body, outputs):
    model = _build(graph, body, f"float[N, 3, 8] y{outputs}")
    assert "n_e stays an Erf" in check(model, "erf-to-gelu", changes=False).notes[0]


def test_a_number_that_broadcasts_the_argument_stays(graph, check):
    body = "d = Div(x, r)  e = Erf(d)  a = Add(e, one)  m = Mul(x, a)  y = Mul(m, k)"
    arrays = {**{k: NUMBERS[k] for k in ("r", "one")}, "k": np.float32([[[[0.5]]]])}
    check(graph(X, "float[1, N, 3, 8] y", body, **arrays), "erf-to-gelu", changes=False)
