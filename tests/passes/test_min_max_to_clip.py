from __future__ import annotations

import numpy as np
import pytest

NUMBERS = {"zero": np.float32(0), "six": np.float32([6]), "half": np.float32(0.5), "m": np.float32(-0.5)}


def _build(graph, body, outputs="float[N, 8] y"):
    used = {name: number for name, number in NUMBERS.items() if f" {name})" in body or f" {name}," in body}
    return graph("float[N, 8] x, float[8] v", outputs, body, **used)


@pytest.mark.parametrize(
    ("body", "op", "bounds"),
    [
        ("a = Max(x, zero)  y = Min(a, half)", "Clip", (0.0, 0.5)),
        ("a = Min(x, half)  y = Max(a, zero)", "Clip", (0.0, 0.5)),
        ("a = Relu(x)  y = Min(a, half)", "Clip", (0.0, 0.5)),
        ("a = Relu(x)  y = Clip(a, m, half)", "Clip", (0.0, 0.5)),
        ("a = Clip(x, m, half)  b = Clip(a, , six)  y = Relu(b)", "Clip", (0.0, 0.5)),
        ("y = Max(x, m)", "Clip", (-0.5,)),
        ("y = Min(x, half)", "Clip", (None, 0.5)),
        ("y = Clip(x, zero)", "Relu", ()),
        ("y = Max(x, zero)", "Relu", ()),
        ("a = Max(x, m)  y = Relu(a)", "Relu", ()),
        ("a = Clip(x, half, six)  y = Clip(a, m, zero)", "Clip", (0.0, 0.0)),
    ],
)
def test_bounds_become_one_node(graph, check, body, op, bounds):
    result = check(_build(graph, body), "min-max-to-clip")
    (node,) = result.model.graph
    assert (node.op_type, node.name) == (op, "n_y")
    assert tuple(v and v.const_value.numpy().item() for v in node.inputs[1:]) == bounds


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("y = Clip(x, m, half)", ""),
        ("y = Clip(x, half, m)", ""),
        ("y = Relu(x)", ""),
        ("y = Max(x, v)", ""),
        ("a = Relu(x)  b = Clip(a, zero, half)  y = Add(a, b)", ""),
        ("a = Relu(x)  y = Clip(a, zero, half)", ", float[N, 8] a"),
    ],
)
def test_other_bounds_stay(graph, check, body, outputs):
    check(_build(graph, body, f"float[N, 8] y{outputs}"), "min-max-to-clip", changes=False)
