from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
W, V = RNG.standard_normal((6, 8)).astype(np.float32), RNG.standard_normal((8, 6)).astype(np.float32)
ONES, B = np.ones(6, np.float32), RNG.standard_normal((1, 1, 8)).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


TO, BACK8, BACK6 = ints(-1, 6), ints(2, -1, 8), ints(2, -1, 6)
LAYER = "m = Reshape(x, to)  g = Gemm(m, w)  r = Reshape(g, back8) "


def test_a_feed_forward_block_stays_on_matrices(graph, check):
    body = LAYER + (
        "a = Gelu(r)  k = Mul(a, b)  t = Reshape(k, to8)  h = Gemm(t, v)  s = Reshape(h, back6)  y0 = Add(s, x)"
        "y = LayerNormalization<axis = -1>(y0, ones)"
    )
    model = graph(
        "float[2, 5, 6] x",
        "float[2, 5, 6] y",
        body,
        w=W,
        v=V,
        b=B,
        ones=ONES,
        to=TO,
        to8=ints(-1, 8),
        back8=BACK8,
        back6=BACK6,
    )
    result = check(model, "keep-matrices")
    # One Reshape to a matrix and one back; the others have no users any more.
    used = [
        n
        for n in result.model.graph
        if n.op_type == "Reshape" and (n.outputs[0].uses() or n.outputs[0].is_graph_output())
    ]
    assert [n.outputs[0].name for n in used][-1] == "y"
    read = {v.name for n in result.model.graph for v in n.inputs if n.op_type in ("Gemm", "Add", "Gelu")}
    assert "r" not in read and "x" not in read


@pytest.mark.parametrize(
    ("body", "arrays", "note"),
    [
        (
            "y = Add(r, c)",
            {"c": np.ones((2, 1, 8), np.float32)},
            "n_y keeps its shape: its operand 'c' has another shape",
        ),
        (
            "y = LayerNormalization<axis = 1>(r, c)",
            {"c": np.ones((5, 8), np.float32)},
            "n_y keeps its shape: it normalizes over other axes than the last",
        ),
    ],
)
def test_what_does_not_fit_stays_with_a_note(graph, check, body, arrays, note):
    model = graph("float[2, 5, 6] x", "float[2, 5, 8] y", LAYER + body, w=W, to=TO, back8=BACK8, **arrays)
    assert check(model, "keep-matrices", changes=False).notes == [note]


def test_symbolic_axes_must_be_the_same(graph, check):
    body = LAYER + "y = Add(r, z)"
    arrays = {"w": W, "to": TO, "back8": ints(2, -1, 8)}
    same = graph("float[2, 5, 6] x, float[2, 5, 8] z", "float[2, 5, 8] y", body, **arrays)
    check(same, "keep-matrices")
    other = graph("float[2, 5, 6] x, float[2, T, 8] z", "float y", body, **arrays)
    assert "another shape" in check(other, "keep-matrices", changes=False, batch=5).notes[0]


def test_a_reshape_that_is_an_output_stays(graph, check):
    model = graph(
        "float[2, 5, 6] x",
        "float[2, 5, 8] y, float[10, 8] z",
        LAYER + "y = Relu(r)  z = Reshape(y, to8)",
        w=W,
        to=TO,
        back8=BACK8,
        to8=ints(-1, 8),
    )
    assert check(model, "keep-matrices").ops["Reshape"] >= 3
