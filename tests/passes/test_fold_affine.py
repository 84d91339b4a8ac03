from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
W = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
C = RNG.standard_normal((4, 1, 1)).astype(np.float32)


@pytest.mark.parametrize("body", ["y = Mul(c, k)", "y = Mul(k, c)", "y = Div(c, k)", "y = Add(k, c)", "y = Sub(c, k)"])
@pytest.mark.parametrize("constant", [C, C[None], np.float32(0.3)], ids=["channel", "batch", "scalar"])
def test_scales_and_offsets_go_into_the_convolution(graph, check, body, constant):
    model = graph("float[N,3,6,6] x", "float[N,4,4,4] y", f"c = Conv(x, w)  {body}", w=W, k=constant)
    assert check(model, "fold-affine").names("Conv") == ["n_c"]
    assert len(model.graph) == 1


def test_a_normalization_written_as_three_nodes_becomes_one(graph, check):
    arrays = {name: np.abs(RNG.standard_normal(3)).astype(np.float32) for name in "gomv"}
    body = "c = BatchNormalization(x, g, o, m, v)  s = Mul(c, k)  y = Add(s, k)"
    model = graph("float[N,3,6,6] x", "float[N,3,6,6] y", body, k=C[:3], **arrays)
    assert check(model, "fold-affine").ops == {"BatchNormalization": 1}


@pytest.mark.parametrize(
    ("body", "constant", "reason"),
    [
        ("y = Mul(c, k)", np.ones(4, np.float32), "not one number a channel"),
        ("a = Add(c, k)  y = Mul(a, c)", np.float32(3), "has 2 consumers"),
        ("y = Div(c, k)", np.float32(0), "overflow"),
    ],
)
def test_what_is_not_folded_is_noted(graph, check, body, constant, reason):
    model = graph("float[N,3,6,6] x", "float[N,4,4,4] y", f"c = Conv(x, w)  {body}", w=W, k=constant)
    assert reason in check(model, "fold-affine", changes=False).notes[0]


def test_a_constant_divided_by_the_convolution_stays(graph, check):
    model = graph("float[N,3,6,6] x", "float[N,4,4,4] y", "c = Conv(x, w)  y = Sub(k, c)", w=W, k=C)
    check(model, "fold-affine", changes=False)
