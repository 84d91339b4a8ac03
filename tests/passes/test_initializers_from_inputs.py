from __future__ import annotations

import numpy as np


def test_weights_listed_as_inputs_become_constants(graph, check):
    weight = np.float32([3, 4])
    result = check(
        graph("float[2] x, float[2] w", "float[2] y", "y = Mul(x, w)", opset=7, ir_version=3, w=weight),
        "initializers-from-inputs",
    )
    assert [value.name for value in result.model.graph.inputs] == ["x"]
    assert result.model.ir_version == 4
    np.testing.assert_array_equal(result.model.graph.initializers["w"].const_value.numpy(), weight)
