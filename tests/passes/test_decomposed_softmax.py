from __future__ import annotations

import numpy as np
import pytest

MAX = "h = ReduceMax(x, ax)  d = Sub(x, h)  "


def _build(graph, body, axes, outputs=""):
    arrays = {"ax": np.int64(axes)}
    return graph("float[N, 3, 8] x", f"float[N, 3, 8] y{outputs}", body, **arrays)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("head", [MAX + "e = Exp(d)", "e = Exp(x)"])
def test_with_and_without_the_greatest(graph, check, head, axis):
    result = check(_build(graph, f"{head}  s = ReduceSum(e, ax)  y = Div(e, s)", [axis]), "decomposed-softmax")
    assert [(node.op_type, node.name) for node in result.model.graph] == [("Softmax", "n_y")]
    assert result.model.graph[0].inputs[0].name == "x"


@pytest.mark.parametrize(
    ("body", "axes", "outputs"),
    [
        ("e = Exp(x)  s = ReduceSum(e, ax)  y = Div(e, s)", [1, 2], ""),
        ("e = Exp(x)  s = ReduceSum(e, ax)  y = Div(e, s)", [1], ", float[N, 3, 8] e"),
        ("e = Exp(x)  s = ReduceMax(e, ax)  y = Div(e, s)", [1], ""),
        ("e = Exp(x)  a = Abs(x)  s = ReduceSum(a, ax)  y = Div(e, s)", [1], ""),
    ],
)
def test_other_quotients_stay_with_a_note(graph, check, body, axes, outputs):
    assert "stays a Div" in check(_build(graph, body, axes, outputs), "decomposed-softmax", changes=False).notes[0]


FLAT = "f = Flatten<axis = {}>(x)  p = Softmax<axis = -1>(f)  s = Shape(x)  y = Reshape(p, s)"


@pytest.mark.parametrize(("axis", "left"), [(2, ["Softmax"]), (-1, ["Softmax"]), (1, None)])
def test_one_from_before_opset_13(graph, check, axis, left):
    model = graph("float[N, 3, 8] x", "float[N, 3, 8] y", FLAT.format(axis))
    result = check(model, "decomposed-softmax", changes=left is not None)
    assert left is None or [node.op_type for node in result.model.graph] == left
