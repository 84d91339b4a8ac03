from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import Net, as_model, chain, gru, two_inputs

from dsedge.model import Model, TensorSpec, dims, static_shape


def layouts(model: Model) -> list[str | None]:
    return [spec.layout for spec in model.inputs]


def test_inputs_and_outputs() -> None:
    model = two_inputs()
    assert model.inputs == (
        TensorSpec("image", "float32", ("N", 8, 12, 12), "NCHW"),
        TensorSpec("depth", "float32", ("N", 4, 12, 12), "NCHW"),
    )
    assert [spec.name for spec in model.outputs] == ["gemm_8"]
    assert str(model.inputs[0]) == "image: float32[N, 8, 12, 12] NCHW"
    assert str(TensorSpec("x", "unknown", None)) == "x: unknown[?]"
    assert str(TensorSpec("x", "int64", (None, 3))) == "x: int64[?, 3]"


def test_a_weight_among_the_inputs_is_no_input() -> None:
    proto = chain().graph
    model = ir.to_proto(proto)
    model.graph.input.append(onnx.helper.make_tensor_value_info("const_0", 1, [16, 8, 3, 3]))
    assert [spec.name for spec in as_model(model).inputs] == ["x"]


@pytest.mark.parametrize(
    ("shape", "perm", "layout"),
    [
        (("N", 12, 12, 8), [0, 3, 1, 2], "NHWC"),
        ((12, 12, 8, 1), [3, 2, 0, 1], "HWCN"),
        ((1, 8, 12, 12), [0, 1, 3, 2], "NCWH"),
    ],
)
def test_the_layout_is_read_through_transpositions(shape: tuple[int | str, ...], perm: list[int], layout: str) -> None:
    net = Net(x=shape)
    y = net.op("Transpose", net.op("Mul", net.op("Transpose", "x", perm=[0, 1, 2, 3]), net.const(2.0)), perm=perm)
    net.channels[y] = 8
    assert layouts(net.model(net.conv(y, 8))) == [layout]


def test_the_layout_of_recurrent_and_other_inputs() -> None:
    assert layouts(gru()) == ["TNC"]
    net = Net(x=(1, 8, 32))
    assert layouts(net.model(net.conv("x", 8, rank=1))) == ["NCW"]
    net = Net(x=(1, 8, 32))
    assert layouts(net.model(net.op("MatMul", "x", net.weight(32, 4)))) == [None], "no operator says what the axes mean"
    net = Net(x=(8, 4, 3, 3), y=("N", 4, 9, 9))
    assert layouts(net.model(net.op("Conv", "y", "x"))) == [None, "NCHW"], "a filter is no image"


def test_a_layout_that_two_readers_dispute_is_unknown() -> None:
    net = Net(x=(1, 8, 8, 8))
    turned = net.op("Transpose", "x", perm=[0, 3, 1, 2])
    net.channels[turned] = 8
    assert layouts(net.model(net.conv("x", 8), net.conv(turned, 8))) == [None]


def test_a_new_graph_keeps_who_the_model_is() -> None:
    model = chain()
    other = two_inputs()
    changed = model.with_graph(other.graph)
    assert (changed.name, changed.fingerprint, changed.source) == (model.name, model.fingerprint, model.source)
    assert [spec.name for spec in changed.inputs] == ["image", "depth"]
    assert [spec.name for spec in model.inputs] == ["x"]


def test_shapes() -> None:
    value = ir.Value(name="v", shape=ir.Shape([2, -1, "N"]))
    assert dims(value) == (2, None, "N")
    assert static_shape(value) is None
    assert static_shape(ir.Value(name="v", shape=ir.Shape([2, 3]))) == (2, 3)
    assert static_shape(ir.Value(name="v", shape=ir.Shape([]))) == ()
    assert dims(ir.Value(name="v")) is None


def test_dtypes() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float16[1] a, bool[1] b, string[1] s, bfloat16[1] h)'
        " => (float16[1] x, bool[1] y, string[1] z, bfloat16[1] w)"
        " { x = Identity(a)  y = Identity(b)  z = Identity(s)  w = Identity(h) }"
    )
    assert [spec.dtype for spec in as_model(proto).inputs] == ["float16", "bool", "string", "bfloat16"]
    assert np.dtype("float16") == "float16"
