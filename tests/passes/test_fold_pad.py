from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
W = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
AROUND, ODD = [0, 0, 1, 1, 0, 0, 1, 1], [0, 0, 1, 0, 0, 0, 2, 1]


def _build(graph, body, pads=tuple(ODD), shape="N, 3, 9, 8", outputs="float[A, B, C, D] y", **arrays):
    arrays = {"w": W, "p": np.int64(pads), "zero": np.float32(0), "one": np.float32(1), **arrays}
    arrays |= {"low": np.float32(-np.inf), "ax": np.int64([-1, 2])}
    used = {k: a for k, a in arrays.items() if any(f" {k}{end}" in body for end in "),")}
    return graph(f"float[{shape}] x", outputs, body, **used)


@pytest.mark.parametrize(
    ("body", "pads"),
    [
        ("a = Pad(x, p)  y = Conv(a, w)", ODD),
        ("a = Pad(x, p, zero)  y = Conv<pads = [1, 1, 0, 0], strides = [2, 2]>(a, w)", ODD),
        ("a = Pad(x, p, , ax)  y = Conv(a, w)", [1, 2, 0, 3]),
        ('a = Pad(x, p)  y = Conv<auto_pad = "VALID">(a, w)', ODD),
        ('a = Pad(x, p)  y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(a, w)', ODD),
        ('a = Pad(x, p)  y = Conv<auto_pad = "SAME_LOWER">(a, w)', ODD),
        ("a = Pad(x, p)  y = AveragePool<kernel_shape = [3, 3]>(a)", ODD),
        ("a = Pad(x, p)  y = AveragePool<kernel_shape = [4, 3], pads = [1, 0, 1, 1], count_include_pad = 1>(a)", ODD),
        ("a = Pad(x, p, low)  y = MaxPool<kernel_shape = [3, 3]>(a)", ODD),
        ("r = Relu(x)  a = Pad(r, p)  y = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(a)", AROUND),
        ("r = Sigmoid(x)  t = Dropout(r)  a = Pad(t, p)  y = MaxPool<kernel_shape = [3, 3]>(a)", AROUND),
    ],
)
def test_the_padding_goes_into_the_node(graph, check, body, pads):
    result = check(_build(graph, body, pads), "fold-pad")
    assert result.ops["Pad"] == 0
    assert result.model.graph[-1].name == "n_y"


def test_every_convolution_that_reads_it_takes_it(graph, check):
    model = _build(graph, "a = Pad(x, p)  b = Conv(a, w)  c = Conv<dilations = [1, 1]>(a, w)  y = Add(b, c)")
    assert check(model, "fold-pad").ops["Pad"] == 0


def test_the_padding_stays_for_those_that_cannot_take_it(graph, check):
    model = _build(graph, "a = Pad(x, p)  y = Conv(a, w)  z = Neg(a)", outputs="float[A,B,C,D] y, float[E,F,G,H] z")
    result = check(model, "fold-pad")
    assert result.ops["Pad"] == 1
    assert result.notes == ["n_a not folded into n_z: Neg has no padding of its own"]
    assert next(node for node in result.model.graph if node.op_type == "Conv").inputs[0].name == "x"


@pytest.mark.parametrize(
    ("body", "pads", "reason"),
    [
        ('a = Pad<mode = "reflect">(x, p)  y = Conv(a, w)', ODD, "mode is reflect"),
        ("a = Pad(x, p, one)  y = Conv(a, w)", ODD, "padded with 1.0"),
        ("a = Pad(x, p)  y = Neg(a)", [0, 1, 0, 0, 0, 0, 0, 0], "other axes than those of space"),
        ("a = Pad(x, p)  y = Conv(a, w)", [0, 0, -1, 0, 0, 0, 0, 0], "crops"),
        ("a = Pad(x, p)  y = MaxPool<kernel_shape = [3, 3]>(a)", ODD, "could be the greatest"),
        ("a = Pad(x, p)  y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)", AROUND, "its own padding"),
        ("a = Pad(x, p)  y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(a)", AROUND, "up"),
    ],
)
def test_what_is_not_folded_is_noted(graph, check, body, pads, reason):
    assert reason in check(_build(graph, body, pads), "fold-pad", changes=False).notes[0]


def test_same_padding_of_an_unknown_shape_is_noted(graph, check):
    model = _build(graph, 'a = Pad(x, p)  y = Conv<auto_pad = "SAME_UPPER">(a, w)', shape="N, 3, H, V")
    assert "its own padding is not known" in check(model, "fold-pad", changes=False, batch=3).notes[0]


def test_a_window_that_could_lie_in_the_padding_is_noted(graph, check):
    # With `a` an output too, ONNX Runtime does not fold it either: it would then refuse to run the pool.
    body = "r = Relu(x)  a = Pad(r, p)  y = MaxPool<kernel_shape = [2, 2]>(a)"
    model = _build(graph, body, outputs="float[A,B,C,D] y, float[E,F,G,H] a")
    assert "in the padding altogether" in check(model, "fold-pad", changes=False).notes[0]
