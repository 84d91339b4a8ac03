from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
G, B = (RNG.standard_normal(8).astype(np.float32) for _ in range(2))
ARRAYS = {"ax": np.int64([-1]), "two": np.float32(2), "eps": np.float32(1e-2), "one": np.float32(1), "g": G, "b": B}
MEAN = "m = ReduceMean(x, ax)  d = Sub(x, m)  "
VARIANCE = "p = Pow(d, two)  v = ReduceMean(p, ax)  e = Add(v, eps)  s = Sqrt(e)  "
AFFINE = "w = Mul(n, g)  y = Add(w, b)"


def _build(graph, body, outputs="", **arrays):
    arrays = ARRAYS | arrays
    used = {k: a for k, a in arrays.items() if any(f"{start}{k}{end}" in body for start in " (" for end in "),")}
    return graph("float[N, 4, 8] x", f"float[N, 4, 8] y{outputs}", body, **used)


@pytest.mark.parametrize(
    "body",
    [
        MEAN + VARIANCE + "n = Div(d, s)  " + AFFINE,  # torch
        MEAN + VARIANCE + "n = Div(d, s)  w = Mul(g, n)  y = Add(b, w)",
        MEAN + "m2 = ReduceMean(x, ax)  d2 = Sub(x, m2)  " + VARIANCE + "n = Div(d2, s)  " + AFFINE,  # torch 1.x
        MEAN + VARIANCE.replace("Pow(d, two)", "Mul(d, d)") + "r = Reciprocal(s)  n = Mul(d, r)  " + AFFINE,
        MEAN + VARIANCE + "r = Div(one, s)  n = Mul(r, d)  " + AFFINE,
        # TensorFlow: x * i + (bias - mean * i)
        MEAN
        + VARIANCE
        + "r = Reciprocal(s)  i = Mul(r, g)  t = Mul(x, i)  u = Mul(m, i)  z = Sub(b, u)  y = Add(t, z)",
        MEAN + VARIANCE + "r = Reciprocal(s)  i = Mul(g, r)  n = Mul(d, i)  y = Add(n, b)",
        MEAN + VARIANCE + "y = Div(d, s)",
        MEAN + VARIANCE + "n = Div(d, s)  y = Mul(n, g)",
        MEAN + VARIANCE + "n = Div(d, s)  y = Add(n, one)",
    ],
)
def test_it_becomes_one_node(graph, check, body):
    result = check(_build(graph, body), "decomposed-layer-normalization")
    (node,) = result.model.graph
    assert (node.op_type, node.name, node.inputs[0].name) == ("LayerNormalization", "n_y", "x")
    assert node.inputs[1].const_value.shape == (8,)


def test_the_last_two_axes(graph, check):
    scale = RNG.standard_normal((4, 8)).astype(np.float32)
    body = MEAN + VARIANCE + "n = Div(d, s)  y = Mul(n, g)"
    result = check(_build(graph, body, ax=np.int64([1, 2]), g=scale), "decomposed-layer-normalization")
    assert result.model.graph[0].attributes.get_int("axis") == -2


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [({"ax": np.int64([1])}, "over the axes [1]"), ({"g": G[:4, None]}, "varies along others")],
)
def test_other_normalizations_stay_with_a_note(graph, check, arrays, reason):
    model = _build(graph, MEAN + VARIANCE + "n = Div(d, s)  " + AFFINE, **arrays)
    result = check(model, "decomposed-layer-normalization", changes=False)
    assert reason in result.notes[0]


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (MEAN + VARIANCE + "n = Div(x, s)  " + AFFINE, ""),  # not centered
        (MEAN + VARIANCE.replace("Pow(d,", "Pow(x,") + "n = Div(d, s)  " + AFFINE, ""),
        (MEAN + VARIANCE + "n = Div(d, s)  " + AFFINE, ", float[N, 4, 1] s"),
        (MEAN + VARIANCE.replace("Pow(d, two)", "Pow(d, one)") + "n = Div(d, s)  " + AFFINE, ""),
    ],
)
def test_what_is_no_normalization_is_left_alone(graph, check, body, outputs):
    arrays = {"eps": np.float32(3)} if "one)" in body else {}
    assert check(_build(graph, body, outputs, **arrays), "decomposed-layer-normalization", changes=False).notes == []
