from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
WEIGHTS = {name: RNG.standard_normal((1, 8, size)).astype(np.float32) for name, size in (("w", 3), ("r", 2))}
STATES = {"z": np.zeros((1, 1, 2), np.float32), "h": np.ones((1, 1, 2), np.float32)}


def _lstm(graph, state, **arrays):
    body = f"{state}  y, q, c = LSTM<hidden_size = 2>(x, w, r, , , s, s)"
    return graph("float[5, N, 3] x", "float[A, B, C, D] y", body, **WEIGHTS, **arrays)


@pytest.mark.parametrize(
    "state",
    [
        "s = Identity(z)",
        "s = Expand(z, t)",
        "d = Shape<start = 1, end = 2>(x)  t2 = Concat<axis = 0>(one, d, two)  s = ConstantOfShape(t2)",
        "d = Shape<start = 1, end = 2>(x)  t2 = Concat<axis = 0>(one, d, two)  s = Expand(z, t2)",
    ],
)
def test_zeros_are_dropped(graph, check, state):
    arrays = {"z": STATES["z"], "t": np.int64([1, 1, 1]), "one": np.int64([1]), "two": np.int64([2])}
    used = {name: array for name, array in arrays.items() if f"{name}," in state or f"{name})" in state}
    result = check(_lstm(graph, state, **used), "drop-zero-states", batch=1)
    lstm = next(node for node in result.model.graph if node.op_type == "LSTM")
    assert list(lstm.inputs[5:]) == [None, None]


@pytest.mark.parametrize("state", ["s = Identity(h)", "s = Neg(z)", "s = Concat<axis = 2>(zero, one)"])
def test_other_states_stay_with_a_note(graph, check, state):
    arrays = {**STATES, "zero": np.zeros((1, 1, 1), np.float32), "one": np.ones((1, 1, 1), np.float32)}
    result = check(_lstm(graph, state, **arrays), "drop-zero-states", changes=False, batch=1)
    assert result.notes == ["n_y: the initial state 's' is not constant zero"] * 2
