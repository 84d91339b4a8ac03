from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "attributes", ["kernel_shape = [4, 5]", 'kernel_shape = [4, 5], strides = [4, 5], auto_pad = "VALID"']
)
def test_a_pool_of_everything_is_global(graph, check, attributes):
    model = graph("float[N, 3, 4, 5] x", "float[N, 3, 1, 1] y", f"y = AveragePool<{attributes}>(x)")
    assert check(model, "average-pool-to-global").names("GlobalAveragePool") == ["n_y"]


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ("N, 3, 4, 6", "kernel_shape = [4, 5]"),
        ("N, 3, 4, 5", "kernel_shape = [4, 5], pads = [1, 0, 0, 0]"),
        ("N, 3, 4, 5", 'kernel_shape = [4, 5], auto_pad = "SAME_UPPER"'),
    ],
)
def test_other_pools_stay(graph, check, shape, attributes):
    model = graph(f"float[{shape}] x", "float[A, B, C, D] y", f"y = AveragePool<{attributes}>(x)")
    assert check(model, "average-pool-to-global", changes=False).notes == []


def test_an_unknown_size_is_noted(graph, check):
    model = graph("float[N, 3, H, V] x", "float[A, B, C, D] y", "y = AveragePool<kernel_shape = [4, 5]>(x)")
    assert "n_y stays an AveragePool" in check(model, "average-pool-to-global", changes=False, batch=6).notes[0]
