from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from graphs import GRAPHS, Net, as_model

from dsedge.backends.base import Finding
from dsedge.backends.onnxruntime import unsupported


def parsed(body: str, *, opset: int = 20, functions: str = "", domain: str = "com.example") -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["": {opset}, "{domain}": 1]> g (float[2, 3] x, bool c) => (float[2, 3] y)'
    proto = onnx.parser.parse_model(f"{text} {{ {body} }} {functions}")
    for node in proto.graph.node:
        node.name = f"n_{node.output[0]}"
    return ir.from_proto(proto)


def found(model: ir.Model) -> list[tuple[str, str]]:
    return [(finding.node, finding.op) for finding in unsupported(model)]


@pytest.mark.parametrize("key", GRAPHS)
def test_what_runs_is_supported(key: str) -> None:
    assert unsupported(GRAPHS[key]().graph) == []


def test_all_unknown_operators_are_named_at_once() -> None:
    model = parsed("a = Bogus(x)  b = Relu(a)  d = com.example.Fancy(b)  y = Bogus(d)")
    assert found(model) == [("n_a", "Bogus"), ("n_d", "com.example.Fancy"), ("n_y", "Bogus")]
    reasons = [finding.reason for finding in unsupported(model)]
    assert reasons == [
        "no such operator in domain 'ai.onnx' at opset 20",
        "no such operator in domain 'com.example' at opset 1",
        "no such operator in domain 'ai.onnx' at opset 20",
    ]


def test_bodies_and_functions_are_searched() -> None:
    body = """y = If(c) <then_branch = t () => (float[2, 3] v) { <u> w = Bogus(x)  v = Relu(w) },
        else_branch = e () => (float[2, 3] v) { v = com.example.f(x) }>"""
    function = '<domain: "com.example", opset_import: ["": 20]> f (v) => (w) { w = Weird(v) }'
    model = parsed(body.replace("<u> ", ""), functions=function)
    assert sorted(op for _, op in found(model)) == ["Bogus", "Weird"]


def test_an_operator_of_the_runtime_and_a_function_of_the_model_are_known() -> None:
    functions = '<domain: "com.example", opset_import: ["": 20]> f (v) => (w) { w = Relu(v) }'
    assert unsupported(parsed("y = com.example.f(x)", functions=functions)) == []
    assert unsupported(parsed("y = com.microsoft.Gelu(x)", domain="com.microsoft")) == []


def test_an_operator_that_is_newer_than_the_opset() -> None:
    assert found(parsed("y = Gelu(x)", opset=13)) == [("n_y", "Gelu")]


def test_a_kernel_for_other_types_only() -> None:
    """The operator is known; that its kernel does not take this type, only a session tells."""
    net = Net(x=(1, 8, 4, 4))
    proto = net.proto(net.conv("x", 8))
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        raw = (array.view("uint32") >> 16).astype("uint16").tobytes()
        tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, onnx.TensorProto.BFLOAT16, array.shape, raw, raw=True))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    (finding,) = unsupported(as_model(proto).graph)
    assert isinstance(finding, Finding)
    assert "bfloat16" in finding.reason.lower() or "NOT_IMPLEMENTED" in finding.reason
