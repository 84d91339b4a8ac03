from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from flow import contract
from graphs import Net, chain, mlp

from dsedge.errors import LoadError
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import (
    INT8,
    Request,
    annotate_as_asked,
    parse_request,
    require_available,
    require_matches,
)


def perceptron() -> Model:
    """A table, two linear layers large enough for INT4, and one that is not."""
    net = Net(x=(4, 512))
    sizes = (("encoder/fc1", 512, 512), ("encoder/fc2", 512, 256), ("head", 256, 10))
    y = "x"
    for i, (name, k, n) in enumerate(sizes):
        weight = net.const(net.rng.standard_normal((k, n)).astype(np.float32) / np.float32(k**0.5), f"{name}.weight")
        bias = net.const(net.rng.standard_normal(n).astype(np.float32), f"{name}.bias")
        y = net.op("Gemm", y, weight, bias)
        y = net.op("Relu", y) if i < 2 else y
    return net.model(y)


def graph_of(model: Model) -> ir.Graph:
    return normalize(model)[0].graph.graph


def planned(graph: ir.Graph, text: str, variant: str = "x86-vnni") -> QuantPlan:
    request, accepts = parse_request(text), contract(variant)
    require_available(request, accepts)
    require_matches(request, graph, accepts)
    return annotate_as_asked(graph, accepts, request)


def gemms(plan: QuantPlan) -> list[str]:
    return [node.precision for node in plan.nodes.values() if node.op_type == "Gemm"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int8", INT8),
        ("fp32", Request("fp32")),
        ("head=fp32", Request("int8", (("head", "fp32"),))),
        (" int4 , a/*=fp16, Conv = int8 ", Request("int4", (("a/*", "fp16"), ("Conv", "int8")))),
        ("x=y=fp32", Request("int8", (("x=y", "fp32"),))),
    ],
)
def test_requests_are_read(text: str, expected: Request) -> None:
    assert parse_request(text) == expected
    assert parse_request(str(expected)) == expected


@pytest.mark.parametrize("text", ["", "int9", "int8,", "head", "head=", "=fp32", "head=fp32,int8", "int8,int4", "INT8"])
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(LoadError) as caught:
        parse_request(text)
    assert caught.value.code == "DS145"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int8", ["int8", "int8", "float"]),
        ("int4", ["int4", "int4", "float"]),
        ("fp16", ["fp16", "fp16", "fp16"]),
        ("fp32", ["float", "float", "float"]),
        ("fp32,Gemm_2=int8", ["float", "int8", "float"]),
        ("int8,MatMul=int4", ["int4", "int4", "float"]),
        ("int8,encoder/*=int4,*fc2*=fp32", ["int4", "float", "float"]),
        ("int8,*fc2*=fp32,encoder/*=int4", ["int4", "int4", "float"]),
        ("int4,encoder=fp16,head=fp16", ["fp16", "fp16", "fp16"]),
        ("int8,gemm_0=fp32", ["float", "int8", "float"]),
    ],
)
def test_what_is_asked_for_is_planned(text: str, expected: list[str]) -> None:
    plan = planned(graph_of(perceptron()), text)
    assert gemms(plan) == expected
    assert plan.quantized == (set(expected) != {"float"})


def test_the_request_is_the_reason() -> None:
    plan = planned(graph_of(perceptron()), "int8,Gemm_0=fp32,Gemm_2=int4,head=fp16")
    reasons = {node.name: node.reason for node in plan.nodes.values()}
    assert reasons["Gemm_0"] == "asked for by --precision Gemm_0=fp32"
    assert "MatMulNBits" in reasons["Gemm_2"]
    assert "float16" in reasons["Gemm_4"]
    assert "too few" in {n.name: n.reason for n in planned(graph_of(perceptron()), "int4").nodes.values()}["Gemm_4"]


def test_a_plain_request_is_the_contract() -> None:
    from dsedge.quant.annotate import annotate

    graph = graph_of(chain())
    assert annotate_as_asked(graph, contract(), INT8).to_json() == annotate(graph, contract()).to_json()


def test_a_node_that_was_lifted_stays_float() -> None:
    plan = annotate_as_asked(graph_of(perceptron()), contract(), Request("int4"), lifted={"Gemm_0": "the gate"})
    assert gemms(plan) == ["float", "int4", "float"]
    assert plan.nodes["Gemm_0"].reason == "the gate"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("int8,hed=fp32", "DS145", "did you mean 'head'"),
        ("int8,Conv=fp32", "DS145", "fits no operator"),
        ("int8,Relu=int4", "DS146", "INT4 weights are for MatMul, Gemm, Gather"),
        ("int8,head=int4", "DS146", "too few"),
        ("int8,Relu=fp16", "DS146", "no weights"),
        ("int8,Relu=int8", "DS146", "nothing that --precision Relu=int8 fits can be int8"),
        ("bf16", "DS146", "it has fp32, fp16, int8, int8_dynamic, int4"),
        ("int8,head=bf16", "DS146", "none in bfloat16"),
    ],
)
def test_what_cannot_be_is_refused(text: str, code: str, words: str) -> None:
    with pytest.raises(LoadError) as caught:
        planned(graph_of(perceptron()), text)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_boards_without_kernels_have_no_int4() -> None:
    with pytest.raises(LoadError) as caught:
        planned(graph_of(perceptron()), "int4", "x86")
    assert caught.value.code == "DS146"
    assert gemms(planned(graph_of(perceptron()), "int4", "arm")) == ["int4", "int4", "float"]


def test_int8_that_the_contract_does_not_give_is_refused_with_its_reason() -> None:
    graph = graph_of(mlp())
    with pytest.raises(LoadError) as caught:
        planned(graph, "int8,Softmax=int8")
    assert caught.value.code == "DS146"
    assert "QLinearSoftmax is several times slower" in str(caught.value.because)


def test_bfloat16_is_for_a_whole_model() -> None:
    """The runtime computes all that is float in it, so a part in another precision could not be had."""
    accepts = replace(contract(), bfloat="in bfloat16", lacks={})
    graph = graph_of(perceptron())
    require_available(Request("bf16"), accepts)
    plan = annotate_as_asked(graph, accepts, Request("bf16"))
    assert {node.precision for node in plan.nodes.values()} == {"bf16"}
    assert plan.quantized and not plan.values
    for text in ("bf16,head=fp32", "int8,head=bf16"):
        with pytest.raises(LoadError) as caught:
            require_available(parse_request(text), accepts)
        assert (caught.value.code, "for parts" in caught.value.what) == ("DS146", True)


def test_precisions_are_suggested() -> None:
    with pytest.raises(LoadError) as caught:
        parse_request("int8dyn")
    assert "did you mean 'int8_dynamic'" in str(caught.value.hint)
