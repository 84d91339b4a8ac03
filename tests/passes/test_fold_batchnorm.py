from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)


def _norm(channels: int) -> dict[str, np.ndarray]:
    draws = RNG.standard_normal((4, channels)).astype(np.float32)
    return {"g": draws[0], "o": draws[1], "m": draws[2], "v": np.abs(draws[3]) + 0.1}


def _w(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


NORM = "y = BatchNormalization<epsilon = 0.01>(c, g, o, m, v)"
CASES = {
    "conv": ("N,4,6,6", "Conv(x, w)", {"w": _w(8, 4, 3, 3)}, 8),
    "conv with a bias": ("N,4,6", "Conv(x, w, b)", {"w": _w(8, 4, 3), "b": _w(8)}, 8),
    "depthwise": ("N,4,6,6", "Conv<group=4>(x, w)", {"w": _w(4, 1, 3, 3)}, 4),
    "transposed": ("N,4,3,3", "ConvTranspose<strides=[2,2]>(x, w, b)", {"w": _w(4, 6, 2, 2), "b": _w(6)}, 6),
    "transposed, grouped": ("N,4,3,3", "ConvTranspose<group=2>(x, w)", {"w": _w(4, 3, 2, 2)}, 6),
    "gemm": ("N,4", "Gemm<beta=0.5>(x, w, b)", {"w": _w(4, 5), "b": _w(5)}, 5),
    "gemm, transposed": ("N,4", "Gemm<transB=1, alpha=2.0>(x, w)", {"w": _w(5, 4)}, 5),
    "gemm with a scalar bias": ("N,4", "Gemm(x, w, b)", {"w": _w(4, 5), "b": _w(1)}, 5),
}


@pytest.mark.parametrize("case", CASES)
def test_the_normalization_goes_into_the_weights(graph, check, case):
    shape, linear, weights, channels = CASES[case]
    output = f"float[{', '.join('ABCD'[: shape.count(',') + 1])}] y"
    model = graph(f"float[{shape}] x", output, f"c = {linear}  {NORM}", **weights, **_norm(channels))
    result = check(model, "fold-batchnorm")
    assert [(node.name, len(node.inputs)) for node in result.model.graph] == [("n_c", 3)]
    weight = result.model.graph[0].inputs[1]
    assert (weight.name, weight.dtype.numpy()) == ("w", np.float32)


def test_a_shared_weight_is_folded_for_one_user_only(graph, check):
    body = f"c = Conv(x, w)  {NORM}  z = Conv(x, w)"
    model = graph("float[1,4,6] x", "float[1,8,4] y, float[1,8,4] z", body, w=_w(8, 4, 3), **_norm(8))
    result = check(model, "fold-batchnorm")
    assert [node.inputs[1].name for node in result.model.graph] == ["w_folded", "w"]


def test_the_default_epsilon_is_the_operators(graph, check):
    arrays = {**_norm(4), "v": np.full(4, 1e-5, np.float32)}
    model = graph(
        "float[1,4] x", "float[1,4] y", "c = Gemm(x, w)  y = BatchNormalization(c, g, o, m, v)", w=_w(4, 4), **arrays
    )
    check(model, "fold-batchnorm")


REFUSED = {
    "has 2 consumers": ("", "", "c = Conv(x, w)  n = BatchNormalization(c, g, o, m, v)  y = Add(n, c)"),
    "is an output of the graph": ("", ", float[A, B, C] c", f"c = Conv(x, w)  {NORM}"),
    "comes from n_c (Relu)": ("", "", f"c = Relu(x)  {NORM}"),
    "weights of n_c are not constant": (", float[4, 4, 3] k", "", f"c = Conv(x, k)  {NORM}"),
    "parameters are not constant": (", float[4] s", "", "c = Conv(x, w)  y = BatchNormalization(c, s, o, m, v)"),
    "overflow float32": ("", "", "c = Conv(x, w)  y = BatchNormalization<epsilon = 0.0>(c, g, o, m, zero)"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_folded_is_noted(graph, check, reason):
    inputs, outputs, body = REFUSED[reason]
    arrays = {"w": _w(4, 4, 3), "zero": np.zeros(4, np.float32), **_norm(4)}
    model = graph(f"float[1, 4, 6] x{inputs}", f"float[A, B, C] y{outputs}", body, **arrays)
    result = check(model, "fold-batchnorm", changes=False)
    assert len(result.notes) == 1
    assert reason in result.notes[0]
