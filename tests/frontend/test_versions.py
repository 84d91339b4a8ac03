from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graphs import Net
from onnx import helper

from dsedge.errors import LoadError
from dsedge.frontend.onnx import from_proto
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.verify import predictor


def model(change: Callable[[onnx.ModelProto], object]) -> Model:
    net = Net(x=("N", 4), opset=13)
    proto = net.proto(net.op("MatMul", "x", net.weight(4, 4)))
    change(proto)
    return from_proto(proto, "m", "m.onnx", "0", folder=None)


def opsets(*pairs: tuple[str, int]) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        del proto.opset_import[:]
        proto.opset_import.extend(helper.make_opsetid(*pair) for pair in pairs)

    return change


def spelled_out(proto: onnx.ModelProto) -> None:
    opsets(("ai.onnx", 13))(proto)
    proto.graph.node[0].domain = "ai.onnx"


def ballast(proto: onnx.ModelProto) -> None:
    """What files carry besides the model."""
    proto.training_info.add().algorithm.CopyFrom(proto.graph)
    proto.graph.quantization_annotation.add(tensor_name="nothing").quant_parameter_tensor_names.add(key="S", value="n")
    for key in ("", "a", "a"):
        proto.metadata_props.add(key=key, value="b")
        proto.graph.node[0].metadata_props.add(key=key, value="c")
    for name in ("", "nowhere"):
        proto.graph.value_info.append(helper.make_tensor_value_info(name, 1, [1]))
    proto.graph.name = proto.graph.node[0].name = proto.producer_name = ""
    proto.model_version, proto.domain = -5, "x"


@pytest.mark.parametrize(
    "change",
    [
        *(lambda p, v=version: opsets(("", v))(p) for version in range(7, 13)),
        opsets(("", 13), ("com.microsoft", 1), ("ai.onnx.ml", 3), ("ai.onnx.training", 1)),
        opsets(("", 13), ("ai.onnx", 13)),
        spelled_out,
        ballast,
        *(lambda p, v=version: setattr(p, "ir_version", v) for version in (0, 1, 3, 13, onnx.IR_VERSION)),
        lambda p: p.ClearField("ir_version"),
    ],
)
def test_odd_declarations_do_not_matter(change: Callable[[onnx.ModelProto], object]) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    (expected,) = predictor(model(lambda p: None).graph)({"x": x})
    (got,) = predictor(normalize(model(change))[0].graph)({"x": x})
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_a_model_of_another_domain_alone() -> None:
    def change(proto: onnx.ModelProto) -> None:
        opsets(("com.microsoft", 1))(proto)
        proto.graph.node[0].op_type, proto.graph.node[0].domain = "FusedMatMul", "com.microsoft"

    loaded = model(change)
    assert loaded.source_opset == 0
    assert predictor(normalize(loaded)[0].graph)({"x": np.ones((1, 4), np.float32)})[0].shape == (1, 4)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (opsets(("", 13), ("ai.onnx", 11)), "DS102", "opset 11 and 13"),
        (opsets(("com.microsoft", 1)), "DS102", "MatMul is an operator of ai.onnx"),
        (lambda p: setattr(p, "ir_version", 99), "DS108", "version 99"),
    ],
)
def test_declarations_that_cannot_be_read(change: Callable[[onnx.ModelProto], object], code: str, words: str) -> None:
    with pytest.raises(LoadError) as caught:
        model(change)
    assert caught.value.code == code and words in str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_half_precision_load(dtype: str) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    net = Net(x=("N", 4))
    weight = net.const(np.eye(4).astype(kind))
    loaded = from_proto(net.proto(net.op("MatMul", "x", net.op("Cast", weight, to=1))), "m", "m.onnx", "0", folder=None)
    assert loaded.graph.graph.initializers[weight].const_value.dtype.name == dtype.upper()
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(predictor(normalize(loaded)[0].graph)({"x": x})[0], x)
