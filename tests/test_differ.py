from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
from graphs import Net, chain, residual

from dsedge.backends import onnxruntime
from dsedge.backends.base import Artifact
from dsedge.differ import first_difference
from dsedge.passes.normalize import normalize


def wrong_at(name: str) -> Any:
    """The real backend, which loses the weights of one node."""

    def build(model: ir.Model, folder: Path) -> Artifact:
        model = model.clone()
        node = next((n for n in model.graph if n.name == name), None)
        if node is not None and node.inputs[1] is not None and node.inputs[1].const_value is not None:
            value = node.inputs[1]
            value.const_value = ir.tensor(np.zeros(value.const_value.shape.numpy(), np.float32), name=value.name)
        return onnxruntime.build(model, folder)

    return SimpleNamespace(**{key: getattr(onnxruntime, key) for key in onnxruntime.__all__} | {"build": build})


def test_the_first_operator_that_differs_is_named() -> None:
    model = normalize(residual())[0].graph
    convolutions = [node.name for node in model.graph if node.op_type == "Conv"]
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 8, 12, 12)).astype(np.float32)}
    for name in convolutions[1:]:
        said = first_difference(model, wrong_at(name or ""), feeds)
        assert said.startswith(f"its Conv {name!r} differs; what that reads is up to ")
    assert first_difference(model, wrong_at("none"), feeds) == ""
    assert [v.name for v in model.graph.outputs] == [v.name for v in normalize(residual())[0].graph.graph.outputs]


def test_what_cannot_be_built_is_not_told_twice() -> None:
    model = normalize(chain())[0].graph
    assert first_difference(model, wrong_at("none"), {"nothing": np.zeros(1, np.float32)}) == ""
    net = Net(x=(1, 4))
    first = normalize(net.model(net.op("MatMul", "x", net.weight(4, 4))))[0].graph
    said = first_difference(first, wrong_at("MatMul_0"), {"x": np.ones((1, 4), np.float32)})
    assert said in ("its MatMul 'MatMul_0' differs", "its Gemm 'MatMul_0' differs")
