"""Normalizations, against ONNX Runtime's own kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends.litert.harness import check_float, inferred, node, refused

_RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    """Constants."""
    return _RNG.normal(0, 0.5, shape).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    """Constants above zero."""
    return _RNG.uniform(0.1, 2.0, shape).astype(np.float32)


CASES: dict[str, onnx.ModelProto] = {
    "layer": node("LayerNormalization", [(2, 7, 16), weights(16), weights(16)]),
    "layer without bias": node("LayerNormalization", [(2, 7, 16), weights(16)], epsilon=1e-3),
    "layer over three axes": node("LayerNormalization", [(2, 3, 4, 5), weights(3, 4, 5), weights(3, 4, 5)], axis=1),
    "layer with broadcast": node("LayerNormalization", [(2, 7, 16), weights(1), weights(16)], axis=1),
    "layer with statistics": node("LayerNormalization", [(2, 7, 16), weights(7, 16), weights(7, 16)], 3, axis=1),
    "instance": node("InstanceNormalization", [(2, 3, 5, 7), weights(3), weights(3)]),
    "instance over time": node("InstanceNormalization", [(2, 3, 9), weights(3), weights(3)], epsilon=1e-2),
    "instance over volume": node("InstanceNormalization", [(2, 3, 3, 4, 5), weights(3), weights(3)]),
    "batch": node("BatchNormalization", [(2, 6, 5, 7), weights(6), weights(6), weights(6), positive(6)]),
    "batch of rows": node("BatchNormalization", [(2, 6), weights(6), weights(6), weights(6), positive(6)]),
    "response": node("LRN", [(2, 8, 5, 7)], size=5, alpha=0.1, beta=0.5, bias=2.0),
    "length": node("LpNormalization", [(2, 3, 4, 5)]),
    "length of order 1": node("LpNormalization", [(2, 3, 4, 5)], p=1, axis=1),
}


@pytest.mark.parametrize("case", CASES)
def test_normalization(case: str) -> None:
    found = check_float(CASES[case])
    if case != "response":
        assert "TRANSPOSE" not in found.ops


@pytest.mark.parametrize(("opset", "size"), [(18, 3), (21, 6)])
def test_groups(opset: int, size: int) -> None:
    check_float(groups(opset, size))


def groups(opset: int, size: int) -> onnx.ModelProto:
    """GroupNormalization, whose shape ONNX does not infer."""
    shape = (2, 6, 5, 7)
    model = node("GroupNormalization", [shape, weights(size), weights(size)], num_groups=3, opset=opset)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y0", TensorProto.FLOAT, shape))
    return model


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "added"),
    [
        ("InstanceNormalization", [weights(6), weights(6)], {}, 9),
        ("GroupNormalization", [weights(6), weights(6)], {"num_groups": 3}, 11),
        ("LRN", [], {"size": 3}, 1),
    ],
)
def test_channels_last_stay_as_they_lie(op: str, inputs: list[Any], attributes: dict[str, Any], added: int) -> None:
    constants = {"w": weights(6, 3, 3, 3), **{f"c{i}": array for i, array in enumerate(inputs)}}
    names = ["a", *(name for name in constants if name != "w")]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv"),
        helper.make_node(op, names, ["b"], name="n", **attributes),
        helper.make_node("Conv", ["b", "v"], ["y"], name="next"),
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in (constants | {"v": weights(2, 6, 1, 1)}).items()]
    fed = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3, 6, 7))]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 2, 4, 5))]
    known = [helper.make_tensor_value_info("b", TensorProto.FLOAT, (2, 6, 4, 5))]
    graph = helper.make_graph(nodes, "g", fed, out, stored, value_info=known)
    model = inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    found = check_float(model)
    assert found.ops[0] == found.ops[-1] == "TRANSPOSE"
    assert len(found.ops) == 4 + added
    assert "TRANSPOSE" not in found.ops[1:-1]


@pytest.mark.parametrize(
    ("model", "because"),
    [
        (node("LRN", [(2, 8, 5, 7)], size=4), "as many before a channel as behind it"),
        (node("LRN", [(2, 8, 5)], size=3), "rank 3"),
        (node("LayerNormalization", [(2, 16), (16,)]), "computed at run time"),
    ],
)
def test_what_cannot_be_written_is_refused(model: onnx.ModelProto, because: str) -> None:
    refused(model, because)
