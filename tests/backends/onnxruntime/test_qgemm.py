"""A linear layer whose float result goes into an activation runs in INT8 all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest
from flow import VARIANTS, contract, executed, quantized, samples, worst_sqnr
from graphs import Net

from dsedge.backends import onnxruntime as backend
from dsedge.backends.onnxruntime.lower import lower
from dsedge.model import Model
from dsedge.target import load_target

HOST = next((name for name in VARIANTS.values() if load_target(name).matches_host()[0]), None)
on_host = pytest.mark.skipif(HOST is None, reason="no variant of the contract is this machine's")


def perceptron(act: str, outputs: int = 10) -> Model:
    net = Net(x=("N", 512))
    return net.model(net.gemm(net.op(act, net.gemm("x", 512, 256)), 256, outputs))


@on_host
@pytest.mark.parametrize("act", ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Softplus", "Elu"])
def test_it_is_int8_with_a_float_result(act: str, tmp_path: Path) -> None:
    m = quantized(perceptron(act), contract(next(v for v, name in VARIANTS.items() if name == HOST)))
    artifact = backend.build(m.model, tmp_path)
    assert backend.audit(artifact, m.plan, load_target(HOST or "")).unmatched == {}
    kinds = [node.op_type for node in executed(artifact.main, tmp_path)]
    assert "QGemm" in kinds and act in kinds and "FusedGemm" not in kinds


@pytest.mark.parametrize("variant", ["x86-vnni", "arm-dotprod"])
def test_it_computes_what_the_graph_says(variant: str) -> None:
    model = perceptron("Relu")
    m = quantized(model, contract(variant))
    made = lower(m.model)
    assert any(node.op_type == "QGemm" for node in made.graph)
    assert worst_sqnr(m.model, made, samples(model, 4)) > 60


def test_between_quantizers_the_optimizer_is_left_to_it() -> None:
    m = quantized(perceptron("Relu", outputs=600), contract("x86-vnni"))
    assert all(node.op_type != "QGemm" for node in lower(m.model).graph)


def _bias_on_another_grid(gemm: ir.Node) -> None:
    dq = gemm.inputs[2].producer()  # type: ignore[union-attr]
    scale = dq.inputs[1]  # type: ignore[union-attr]
    assert scale is not None and scale.const_value is not None
    scale.const_value = ir.tensor(scale.const_value.numpy() * 2, name=scale.name)


def _weight_along_the_other_axis(gemm: ir.Node) -> None:
    dq = gemm.inputs[1].producer()  # type: ignore[union-attr]
    assert dq is not None
    dq.attributes["axis"] = ir.AttrInt64("axis", 1)


@pytest.mark.parametrize(
    "change",
    [
        _bias_on_another_grid,
        _weight_along_the_other_axis,
        lambda gemm: gemm.attributes.add(ir.AttrFloat32("alpha", 0.5)),
        lambda gemm: gemm.attributes.add(ir.AttrFloat32("beta", 2.0)),
    ],
)
def test_what_qgemm_would_compute_otherwise_is_left_as_it_is(change: Callable[[ir.Node], None]) -> None:
    """A model that came quantized may hold such layers."""
    m = quantized(perceptron("Relu"), contract("x86-vnni"))
    change(next(node for node in m.model.graph if node.op_type == "Gemm"))
    assert all(node.op_type != "QGemm" for node in lower(m.model).graph)
