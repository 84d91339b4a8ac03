from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)


def _w(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


MEAN = np.float32([0.485, 0.456, 0.406, 0.5]).reshape(4, 1, 1)
STD = np.float32([0.229, 0.224, 0.225, 0.5]).reshape(4, 1, 1)
NORM = {"g": np.float32([1, 2, 1.5, 1]), "o": _w(4), "m": _w(4), "v": np.float32([1, 1, 1.5, 2])}
PRE = "s = Sub(x, mean)  d = Div(s, std)  "


def _build(graph, body, shape="N, 4, 6, 6", outputs="float[A, B, C, D] y", **arrays):
    arrays = {"mean": MEAN, "std": STD, "tiny": STD / 100 + MEAN * (STD > 0.3), **NORM, **arrays}
    used = {k: a for k, a in arrays.items() if any(f"{b}{k}{e}" in body for b in " (" for e in "),")}
    return graph(f"float[{shape}] x", outputs, body, **used)


CASES = {
    "conv": (PRE + "y = Conv(d, w)", {"w": _w(8, 4, 3, 3)}),
    "conv with a bias": (PRE + "y = Conv(d, w, b)", {"w": _w(8, 4, 3, 3), "b": _w(8)}),
    "grouped": (PRE + "y = Conv<group = 2>(d, w)", {"w": _w(6, 2, 3, 3)}),
    "depthwise": (PRE + "y = Conv<group = 4>(d, w)", {"w": _w(4, 1, 3, 3)}),
    "scale before padding": ("d = Mul(x, std)  y = Conv<pads = [1, 1, 1, 1]>(d, w)", {"w": _w(8, 4, 3, 3)}),
    "number": ("d = Div(x, k)  y = Conv(d, w)", {"w": _w(8, 4, 3, 3), "k": np.float32(255)}),
    "normalization": ("d = BatchNormalization(x, g, o, m, v)  y = Conv(d, w)", {"w": _w(8, 4, 3, 3)}),
}


@pytest.mark.parametrize("case", CASES)
def test_it_goes_into_the_convolution(graph, check, case):
    body, arrays = CASES[case]
    result = check(_build(graph, body, **arrays), "fold-input-affine")
    assert [node.name for node in result.model.graph] == ["n_y"]
    assert len(result.model.graph[0].inputs) == (2 if case in ("scale before padding", "number") else 3)


@pytest.mark.parametrize(
    "gemm", ["Gemm(d, w)", "Gemm<transB = 1, alpha = 2.0>(d, w)", "Gemm<beta = 0.5, alpha = 2.0>(d, w, b)"]
)
def test_it_goes_into_the_matrix_product(graph, check, gemm):
    body = f"s = Mul(x, k)  d = Add(s, t)  y = {gemm}"
    arrays = {"k": np.float32([1, 2, 3, 2]), "t": _w(4), "b": _w(4), "w": _w(4, 4)}
    result = check(_build(graph, body, "N, 4", "float[A, B] y", **arrays), "fold-input-affine")
    assert [node.name for node in result.model.graph] == ["n_y"]


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("d = Sub(x, mean)  y = Conv<pads = [1, 1, 1, 1]>(d, w)", "", "pads with zeros"),
        ('d = Sub(x, mean)  y = Conv<auto_pad = "SAME_UPPER">(d, w)', "", "pads with zeros"),
        ("d = Mul(x, tiny)  y = Conv(d, w)", "", "differ too much"),
        ("d = Mul(x, mean)  y = Conv(d, w)", ", float[A, B, C, D] d", None),
        ("d = Sub(mean, x)  y = Conv(d, w)", "", None),
        ("d = Mul(x, std)  r = Relu(d)  y = Conv(r, w)", "", None),
    ],
)
def test_what_is_not_folded(graph, check, body, outputs, reason):
    model = _build(graph, body, outputs=f"float[A, B, C, D] y{outputs}", w=_w(8, 4, 3, 3))
    notes = check(model, "fold-input-affine", changes=False).notes
    assert [reason in note for note in notes] == [True] if reason else not notes
