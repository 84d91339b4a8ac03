from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
W = RNG.standard_normal((3, 3, 1, 1)).astype(np.float32)
ARRAYS = {
    "w": W,
    "bias": RNG.standard_normal(3).astype(np.float32),
    "cap": np.float32(0.5),
    "pads": np.int64([0, 1, 0, 0, 0, 2, 1, 0]),
    "mid": np.int64([1, 2]),
    "last": np.int64([3]),
    "first": np.int64([1, 3]),
}
IN, OUT = "Transpose<perm = [0, 2, 3, 1]>", "Transpose<perm = [0, 3, 1, 2]>"


def _build(graph, body, outputs="float[A, B, C, D] y"):
    body = body.replace("IN", IN).replace("OUT", OUT)
    used = {k: a for k, a in ARRAYS.items() if any(f" {k}{end}" in body for end in "),")}
    return graph("float[N, 3, 4, 5] x, float[N, 4, 5, 3] z", outputs, body, **used)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = IN(x)  b = OUT(a)  y = Conv(b, w)", 0),
        ("a = IN(x)  y = IN(a)", 1),
        ("a = IN(x)  b = Relu(a)  c = OUT(b)  y = Conv(c, w)", 0),
        ("a = IN(x)  b = Relu(a)  y = IN(b)", 1),
        ("a = IN(x)  b = Add(a, bias)  d = Clip(b, , cap)  c = OUT(d)  y = Conv(c, w)", 0),
        ("a = IN(x)  s = Sigmoid(a)  b = Mul(s, a)  y = OUT(b)", 0),
        ("a = IN(x)  b = Pad(a, pads)  c = OUT(b)  y = Conv(c, w)", 0),
        ("a = IN(x)  r = Relu(a)  b = Concat<axis = -1>(a, r)  y = OUT(b)", 0),
        ("a = IN(x)  b = Softmax(a)  y = OUT(b)", 0),
        ("a = IN(x)  m = ReduceMean(a, mid)  b = Sub(a, m)  y = OUT(b)", 0),
        ("c = Conv(x, w)  a = IN(x)  b = IN(c)  d = Add(a, b)  r = Relu(d)  y = OUT(r)", 0),
        ("a = IN(x)  b = Add(a, bias)  c = OUT(b)  d = Conv(c, w)  e = IN(d)  f = Add(e, b)  y = OUT(f)", 0),
        # One leads out of the region: of three Transposes one is left, and of two as well.
        ("a = IN(x)  r = Relu(a)  b = OUT(r)  c = Conv(b, w)  y = Flatten(r)  z2 = Flatten(c)", 1),
        ("a = Transpose(x)  b = Relu(a)  y = Transpose(b)", 0),
    ],
)
def test_what_undoes_itself_goes(graph, check, body, left):
    outputs = "float[A, B] y, float[C, D] z2" if "z2" in body else "float[A, B, C, D] y"
    result = check(_build(graph, body, outputs), "cancel-transposes")
    assert result.ops["Transpose"] == left
    assert result.model.graph.outputs[0].name == "y"


def test_a_mean_that_drops_the_moved_axes_reads_the_value_before(graph, check):
    model = _build(graph, "a = IN(x)  y = ReduceMean<keepdims = 0>(a, mid)", "float[A, B] y")
    assert check(model, "cancel-transposes").ops == {"ReduceMean": 1}


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("a = IN(x)  y = Relu(a)", ""),
        ("a = IN(x)  b = Add(a, z)  y = OUT(b)", ""),
        ("a = IN(x)  b = Relu(a)  y = OUT(b)", ", float[A, B, C, D] b, float[A, B, C, D] a"),
        ("a = Transpose<perm = [0, 3, 2, 1]>(x)  r = ReduceMean<keepdims = 0>(a, last)  y = Unsqueeze(r, last)", ""),
    ],
)
def test_what_would_not_get_less_stays(graph, check, body, outputs):
    check(_build(graph, body, f"float[A, B, C, D] y{outputs}"), "cancel-transposes", changes=False)
