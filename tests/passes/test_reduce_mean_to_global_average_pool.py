from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
W = {3: RNG.standard_normal((4, 3, 3)).astype(np.float32), 4: RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)}


@pytest.mark.parametrize(("shape", "axes"), [("N, 3, 8", [2]), ("N, 3, 8, 8", [-2, -1]), ("N, 3, H, V", [3, 2])])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_space_becomes_pooling(graph, check, shape, axes, keepdims):
    rank = shape.count(",") + 1
    outputs = f"float[{', '.join('ABCD'[: rank if keepdims else 2])}] y"
    body = f"c = Conv(x, w)  r = HardSwish(c)  y = ReduceMean<keepdims = {keepdims}>(r, axes)"
    result = check(
        graph(f"float[{shape}] x", outputs, body, w=W[rank], axes=np.int64(axes)),
        "reduce-mean-to-global-average-pool",
        batch=6,
    )
    assert result.names("GlobalAveragePool") == ["n_y"]
    assert result.names("Flatten") == ([] if keepdims else ["n_y_flatten"])


@pytest.mark.parametrize(
    ("inputs", "body", "reason"),
    [
        # The mean of a layer normalization over [batch, time, features]: the axes of space, but not space.
        ("float[N, 5, 3] x", "a = Relu(x)  m = ReduceMean(a, last)", "no spatial operator"),
        (
            "float[N, 3, 8] x",
            "c = Conv(x, w)  t = Transpose<perm=[0, 2, 1]>(c)  m = ReduceMean(t, last)",
            "no spatial operator",
        ),
        ("float[N, 3, 8] x", "c = Conv(x, w)  m = ReduceMean(c, first)", "not over exactly the spatial axes"),
        ("float[N, 3, 8] x", "c = Conv(x, w)  m = ReduceMean(c)", "not over exactly the spatial axes"),
        ("float[N, 3] x", "m = ReduceMean(x, first)", "rank 3 to 5"),
    ],
)
def test_other_means_stay_with_a_note(graph, check, inputs, body, reason):
    arrays = {"w": W[3], "last": np.int64([2]), "first": np.int64([1])}
    used = {name: array for name, array in arrays.items() if f" {name})" in body}
    model = graph(inputs, "float y", f"{body}  y = ReduceSum<keepdims = 0>(m)", **used)
    assert reason in check(model, "reduce-mean-to-global-average-pool", changes=False).notes[0]
