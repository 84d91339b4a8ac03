from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dsedge.errors import LoadError
from dsedge.passes import discover

CASES = {
    "upsample 7": (
        7,
        "float[1,2,3,4] x",
        "float[1,2,6,8] y",
        'y = Upsample<mode="nearest", scales=[1.0,1.0,2.0,2.0]>(x)',
    ),
    "upsample 9 linear": (9, "float[1,2,3,4] x", "float[1,2,4,6] y", 'y = Upsample<mode="linear">(x, scales)'),
    "resize 10": (10, "float[1,2,3,4] x", "float[1,2,4,6] y", 'y = Resize<mode="linear">(x, scales)'),
    "softmax over the rest": (9, "float[N,2,3] x", "float[N,2,3] y", "y = Softmax<axis=1>(x)"),
    "pad": (7, "float[2,3] x", "float[2,5] y", "y = Pad<pads=[0,1,0,1], value=2.0>(x)"),
    "slice": (9, "float[2,3] x", "float[2,2] y", "y = Slice<axes=[1], starts=[-2], ends=[1000]>(x)"),
    "clip": (7, "float[2,3] x", "float[2,3] y", "y = Clip<min=0.0, max=0.5>(x)"),
    "dropout": (7, "float[2,3] x", "float[2,3] y", "y = Dropout<ratio=0.3>(x)"),
    "split": (11, "float[2,4] x", "float[2,1] y, float[2,3] z", "y, z = Split<axis=1, split=[1,3]>(x)"),
    "squeeze": (11, "float[1,3] x", "float[3] y", "y = Squeeze<axes=[0]>(x)"),
    "reduce": (13, "float[2,3] x", "float[2,1] y", "y = ReduceMean<axes=[1]>(x)"),
    "topk": (9, "float[2,4] x", "float[2,2] y", "y, i = TopK<k=2>(x)"),
    "batchnorm": (7, "float[1,2,3] x", "float[1,2,3] y", "y = BatchNormalization(x, two, two, two, two)"),
    "if": (
        11,
        "float[3] x, bool c",
        "float[1,3] y",
        "y = If(c) <then_branch = t () => (float[1,3] t) { t = Unsqueeze<axes=[0]>(x) },"
        " else_branch = e () => (float[1,3] e) { n = Neg(x) e = Unsqueeze<axes=[0]>(n) }>",
    ),
}
CONSTANTS = {"scales": np.float32([1, 1, 1.5, 1.5]), "two": np.float32([1, 2])}


@pytest.mark.parametrize("name", CASES)
def test_an_upgraded_operator_computes_the_same(graph, check, name):
    opset, inputs, outputs, body = CASES[name]
    arrays = {key: array for key, array in CONSTANTS.items() if key in body}
    result = check(graph(inputs, outputs, body, opset=opset, ir_version=4, **arrays), "upgrade-opset")
    assert result.model.opset_imports[""] == 20
    assert "n_y" in {node.name for node in result.model.graph}


def test_weights_are_neither_read_nor_copied(graph):
    def fail() -> ir.TensorProtocol:
        raise AssertionError("the weight was read")

    model = graph("float[4, 4096] x", "float[4, 4096] y", "y = MatMul(x, w)", opset=13)
    weight = ir.LazyTensor(fail, dtype=ir.DataType.FLOAT, shape=ir.Shape([4096, 4096]), name="w")
    value = model.graph[0].inputs[1]
    value.const_value, value.type, value.shape = weight, ir.TensorType(weight.dtype), weight.shape
    model.graph.register_initializer(value)
    discover()["upgrade-opset"]()(model)
    assert model.graph.initializers["w"].const_value is weight
    assert [value.name for value in model.graph.inputs] == ["x"]


def test_names_of_nodes_survive(graph):
    model = graph("float[2, 3] x", "float[2] y", "y = ReduceSum<axes=[1], keepdims=0>(x)", opset=11)
    discover()["upgrade-opset"]()(model)
    assert "n_y" in {node.name for node in model.graph}


def test_a_newer_opset_is_kept(graph, check):
    result = check(
        graph("float[2] x", "float[2] y", "y = Relu(x)", opset=22, ir_version=10), "upgrade-opset", changes=False
    )
    assert result.model.opset_imports[""] == 22


@pytest.mark.parametrize("body", ["y = NoSuchOperator(x)", "y = Relu<consumed_inputs=[0]>(x)"])
def test_what_cannot_be_converted_is_refused(graph, body):
    with pytest.raises(LoadError) as caught:
        discover()["upgrade-opset"]()(graph("float[2] x", "float[2] y", body, opset=9 if "No" in body else 5))
    assert caught.value.code == "DS108"
    assert caught.value.because
