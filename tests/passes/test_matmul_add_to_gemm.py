from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
W, B = RNG.standard_normal((3, 4)).astype(np.float32), RNG.standard_normal(4).astype(np.float32)


@pytest.mark.parametrize(("body", "bias"), [("y = Add(m, b)", B), ("y = Add(b, m)", B), ("y = Add(m, b)", B[None])])
def test_a_linear_layer_becomes_one_gemm(graph, check, body, bias):
    model = graph("float[N, 3] x", "float[N, 4] y", f"m = MatMul(x, w)  {body}", w=W, b=bias)
    result = check(model, "matmul-add-to-gemm")
    assert result.ops == {"Gemm": 1}
    assert result.names("Gemm") == ["n_m"]


@pytest.mark.parametrize(
    ("outputs", "body"),
    [
        ("float[N, 4] y", "y = MatMul(x, w)"),
        ("float[N, 4] y", "m = MatMul(x, w)  r = Relu(m)  y = Add(m, r)"),
        ("float[N, 4] m, float[N, 4] y", "m = MatMul(x, w)  y = Add(m, b)"),
        ("float[N, 4] y", "m = MatMul(x, w)  y = Add(m, one)"),
    ],
)
def test_an_add_that_is_no_bias_stays(graph, check, outputs, body):
    arrays = {name: array for name, array in {"b": B, "one": np.ones((1, 1), np.float32)}.items() if f"{name})" in body}
    result = check(graph("float[N, 3] x", outputs, body, w=W, **arrays), "matmul-add-to-gemm")
    assert result.ops["Gemm"] == 1
    assert result.ops["Add"] == body.count("Add")


@pytest.mark.parametrize(("shape", "note"), [("2, N, 3", "its input has rank 3"), ("3", "its input has rank 1")])
def test_other_ranks_stay_with_a_note(graph, check, shape, note):
    model = graph(f"float[{shape}] x", "float y", "m = MatMul(x, w)  y = ReduceSum<keepdims = 0>(m)", w=W)
    assert check(model, "matmul-add-to-gemm", changes=False).notes == [f"n_m stays a MatMul: {note}"]
