from __future__ import annotations

import numpy as np
import pytest

from dsedge.passes.static_reshape import _target

ONE, MINUS = np.int64([1]), np.int64([-1])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("n = Shape<end = 1>(x)  t = Concat<axis = 0>(n, minus)", [-1, 12]),
        ("n = Shape<end = 1>(x)  t = Concat<axis = 0>(n, three, minus)", [-1, 3, 4]),
        ("n = Shape<end = 1>(x)  t = Concat<axis = 0>(three, minus)", [3, -1]),
    ],
)
def test_a_computed_target_becomes_constant(graph, check, target, expected):
    arrays = {"minus": MINUS, "three": np.int64([3])}
    used = {name: array for name, array in arrays.items() if name in target}
    axes = ", ".join("ABC"[: len(expected)])
    model = graph("float[N, 3, 4] x", f"float[{axes}] y", f"{target}  y = Reshape(x, t)", **used)
    result = check(model, "static-reshape", batch=3)
    reshape = next(node for node in result.model.graph if node.op_type == "Reshape")
    assert reshape.inputs[1].const_value.numpy().tolist() == expected


def test_two_open_axes_stay_with_a_note(graph, check):
    model = graph("float[N, M, 4] x", "float[A, B, C] y", "s = Shape(x)  y = Reshape(x, s)")
    assert "more than one axis" in check(model, "static-reshape", changes=False).notes[0]


@pytest.mark.parametrize(
    ("source", "result"),
    [
        (("N", 3, 4), ("N", None, 5)),
        (("N", 0), ("N", None)),
        (("N", 4), (None, 0)),
        (("N", "N", 4), ("N", None)),
        (("N", 4), (None, None)),
    ],
)
def test_no_length_is_made_up(source, result):
    assert _target(source, result) is None
