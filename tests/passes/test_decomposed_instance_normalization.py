from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
G, B = (RNG.standard_normal((3, 1, 1)).astype(np.float32) for _ in range(2))
HEAD = "m = ReduceMean(x, ax)  d = Sub(x, m)  p = Mul(d, d)  v = ReduceMean(p, ax)  e = Add(v, eps)  s = Sqrt(e)  "


def _build(graph, body, axes=(2, 3), **arrays):
    arrays = {"ax": np.int64(axes), "eps": np.float32(1e-2), "g": G, "b": B, **arrays}
    used = {k: a for k, a in arrays.items() if f" {k})" in body or f"({k}," in body}
    return graph("float[N, 3, 4, 5] x", "float[N, 3, 4, 5] y", body, **used)


@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
@pytest.mark.parametrize(
    "body",
    [
        HEAD + "y = Div(d, s)",
        HEAD + "n = Div(d, s)  w = Mul(n, g)  y = Add(w, b)",
        HEAD + "r = Reciprocal(s)  i = Mul(r, g)  t = Mul(x, i)  u = Mul(m, i)  z = Sub(b, u)  y = Add(t, z)",
    ],
)
def test_it_becomes_one_node(graph, check, body, axes):
    result = check(_build(graph, body, axes), "decomposed-instance-normalization")
    (node,) = result.model.graph
    assert (node.op_type, node.name) == ("InstanceNormalization", "n_y")
    assert [value.const_value.shape for value in node.inputs[1:]] == [(3,), (3,)]


@pytest.mark.parametrize(
    ("arrays", "reason"), [({"axes": (1, 2)}, "over the axes [1, 2]"), ({"g": np.ones((4, 1))}, "one number a channel")]
)
def test_other_normalizations_stay_with_a_note(graph, check, arrays, reason):
    arrays = {k: np.float32(a) if k == "g" else a for k, a in arrays.items()}
    model = _build(graph, HEAD + "n = Div(d, s)  w = Mul(n, g)  y = Add(w, b)", **arrays)
    assert reason in check(model, "decomposed-instance-normalization", changes=False).notes[0]
