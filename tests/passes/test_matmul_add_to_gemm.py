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


def test_a_vector_stays_with_a_note(graph, check):
    model = graph("float[3] x", "float y", "m = MatMul(x, w)  y = ReduceSum<keepdims = 0>(m)", w=W)
    result = check(model, "matmul-add-to-gemm", changes=False)
    assert result.notes == ["n_m stays a MatMul: its input has rank 1"]


@pytest.mark.parametrize(("shape", "shape_nodes"), [("2, 5, 3", 0), ("N, 5, 3", 0), ("N, T, 3", 1), ("N, 1, T, 3", 1)])
def test_layers_on_sequences_share_one_matrix(graph, check, shape, shape_nodes):
    axes = ", ".join(shape.split(", ")[:-1])
    body = "m = MatMul(x, w)  y = Add(m, b)  k = MatMul(x, w)  z = Relu(k)  c = MatMul(x, v)"
    model = graph(
        f"float[{shape}] x",
        f"float[{axes}, 4] y, float[{axes}, 4] z, float[{axes}, 2] c",
        body,
        w=W,
        b=B,
        v=W[:, :2].copy(),
    )
    result = check(model, "matmul-add-to-gemm")
    assert result.ops == {"Gemm": 3, "Reshape": 4, "Relu": 1} | (
        {"Shape": shape_nodes, "Concat": 2} if shape_nodes else {}
    )
    assert result.names("Gemm") == ["n_m", "n_k", "n_c"]


def test_a_bias_that_widens_the_result_stays_an_add(graph, check):
    model = graph(
        "float[N, 3] x",
        "float y",
        "m = MatMul(x, w)  a = Add(m, b)  y = ReduceSum<keepdims = 0>(a)",
        w=W,
        b=B[None, None],
    )
    assert check(model, "matmul-add-to-gemm").ops["Add"] == 1


def test_a_bias_that_is_a_row_becomes_a_vector(graph, check):
    model = graph("float[N, 3] x", "float[N, 4] y", "y = Gemm(x, w, b)", w=W, b=B[None])
    result = check(model, "matmul-add-to-gemm")
    assert result.model.graph.initializers["b"].shape == [4]
