"""What the tests of elementwise operators share: pairs of shapes, and an input that is held with channels last."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.backends.litert.harness import inferred

SHAPES = [
    pytest.param((2, 3, 4, 5), (2, 3, 4, 5), id="same"),
    pytest.param((2, 3, 4, 5), (), id="scalar"),
    pytest.param((2, 3, 4, 5), (3, 1, 1), id="channels"),
    pytest.param((2, 3, 4, 5), (5,), id="last"),
    pytest.param((3, 1, 5), (2, 1, 1, 4, 1), id="both"),
    pytest.param((2, 3, 2, 1, 2, 3), (1, 3, 1, 4, 1, 3), id="six axes"),
    pytest.param((2, 1, 2, 2, 1, 2, 2, 2), (2, 2, 1, 1, 2, 2, 1, 2), id="eight axes"),
]
"""Two operands that broadcast."""


def held_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model of one node behind a convolution that leaves its input with channels last."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    channels = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    weight = np.asarray(np.random.default_rng(5).normal(0, 1, (channels, channels, 1, 1)), np.float32)
    graph.initializer.append(numpy_helper.from_array(weight, "weight"))
    graph.node.insert(0, helper.make_node("Conv", ["x0", "weight"], ["conv"], name="conv"))
    for each in graph.node[1:]:
        each.input[:] = ["conv" if name == "x0" else name for name in each.input]
    del graph.value_info[:]
    return inferred(copied)
