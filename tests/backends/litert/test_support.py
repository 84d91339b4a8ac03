"""Support: all that cannot be written, at once, with a reason, and before anything is written."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from graphs import GRAPHS, image

from dsedge.backends import litert
from dsedge.backends.base import Finding
from dsedge.frontend.static import with_static_axes

HEADER = '<ir_version: 10, opset_import: ["": 20]>'


def model(text: str) -> ir.Model:
    proto = onnx.parser.parse_model(f"{HEADER} g {text}")
    for i, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{i}"
    return ir.from_proto(proto)


def findings(text: str) -> list[tuple[str, str]]:
    return [(finding.node, finding.reason) for finding in litert.unsupported(model(text))]


def test_all_at_once_and_nothing_that_follows_from_it() -> None:
    found = findings(
        "(float[2] x) => (float[2] y, float[2] z) { a = Bogus(x)  b = Relu(a)  y = Fake(b)  c = Exp(x)  z = Det(c) }"
    )
    assert [node for node, _ in found] == ["Bogus_0", "Fake_2", "Det_4"]
    assert all(reason == "TFLite has no operator for it" for _, reason in found)


@pytest.mark.parametrize(
    ("text", "node", "reason"),
    [
        ("(float[2] x) => (float[2] y) { a = NonZero(x)  b = Cast<to=1>(a)  y = Relu(b) }", "NonZero_0", "data"),
        (
            "(float[2] x, bool c) => (float[2] y) { y = If(c)<then_branch = t () => (float[2] u) { u = Relu(x) }, "
            "else_branch = e () => (float[2] v) { v = Exp(x) }> }",
            "If_0",
            "control flow",
        ),
        ("(float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }", "", "open axes, [N, 2]"),
        ("(float x, double[2] d) => (double[2] y) { y = Exp(d) }", "", "float64"),
        ("(string[2] x) => (string[2] y) { y = Identity(x) }", "", "no kernels"),
    ],
)
def test_reasons(text: str, node: str, reason: str) -> None:
    ((found, why),) = findings(text)
    assert found == node
    assert reason in why


def test_what_normalizing_rewrites_is_no_obstacle_and_the_model_is_left_alone() -> None:
    net = image(opset=11)
    x = net.conv("x", 16)
    scale = net.const([1.0] * 16)
    folded = net.op("BatchNormalization", x, scale, scale, scale, scale)
    source = with_static_axes(net.model(net.head(net.op("Dropout", folded))), "litert")[0].graph
    before = ir.to_proto(source).SerializeToString()
    assert litert.unsupported(source) == []
    assert ir.to_proto(source).SerializeToString() == before


def test_an_operator_of_another_domain_is_named_with_it() -> None:
    net = image()
    net.channels["y"] = 8
    graph = net.model(net.op("FusedThing", "x", domain="com.example")).graph
    (found,) = litert.unsupported(with_static_axes_of(graph))
    assert found == Finding("FusedThing_0", "com.example.FusedThing", "TFLite has no operator for it")


def with_static_axes_of(graph: ir.Model) -> ir.Model:
    graph.graph.inputs[0].shape = ir.Shape([1, 8, 12, 12])
    return graph


@pytest.mark.parametrize("key", sorted(GRAPHS.keys() - {"branches"}))
def test_small_models_are_supported(key: str) -> None:
    source = GRAPHS[key]()
    if all("T" not in (spec.shape or ()) for spec in source.inputs):
        assert litert.unsupported(with_static_axes(source, "litert")[0].graph) == []
