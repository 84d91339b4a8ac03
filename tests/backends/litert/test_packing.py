from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from dsedge.backends.litert.flatbuffer import Flatbuffer
from dsedge.quant.plan import QParams


def test_equal_parameters_are_written_once() -> None:
    """Zero points take 8 bytes a channel, and those of weights and biases are all zero."""
    channels = 4096

    def size(count: int) -> int:
        file = Flatbuffer()
        scale = np.linspace(0.1, 1.0, channels, dtype=np.float32)
        params = QParams(scale, np.zeros(channels, np.int8), "int8", 0)
        tensors = {f"w{i}": file.constant(f"w{i}", np.full((channels, 1), i, np.int8), params) for i in range(count)}
        content = file.serialize({}, tensors, {})
        graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0)).subgraphs[0]
        for tensor in graph.tensors:
            np.testing.assert_array_equal(tensor.quantization.scale, scale)
            np.testing.assert_array_equal(tensor.quantization.zeroPoint, np.zeros(channels))
        return len(content)

    assert size(3) - size(2) < channels + 1000
