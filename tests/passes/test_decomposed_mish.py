from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("softplus", ["s = Softplus(x)", "e = Exp(x)  a = Add(e, one)  s = Log(a)"])
@pytest.mark.parametrize("product", ["Mul(x, t)", "Mul(t, x)"])
def test_mish(graph, check, softplus, product):
    one = {"one": np.float32(1)} if "one" in softplus else {}
    result = check(
        graph("float[N, 8] x", "float[N, 8] y", f"{softplus}  t = Tanh(s)  y = {product}", **one), "decomposed-mish"
    )
    assert [(node.op_type, node.name) for node in result.model.graph] == [("Mish", "n_y")]


def test_a_product_with_something_else_stays_with_a_note(graph, check):
    model = graph("float[N, 8] x, float[N, 8] z", "float[N, 8] y", "s = Softplus(x)  t = Tanh(s)  y = Mul(z, t)")
    assert "n_t stays a Tanh" in check(model, "decomposed-mish", changes=False).notes[0]
