"""A layer that the plan has in float runs in float, whatever the optimizer would like."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx_ir as ir
import pytest
from flow import VARIANTS, contract, executed, quantized, run, samples
from graphs import Net

from dsedge.backends.base import Artifact
from dsedge.backends.onnxruntime import audit, build
from dsedge.backends.onnxruntime.guard import guard
from dsedge.target import load_target

HOST = next((name for name in VARIANTS.values() if load_target(name).matches_host()[0]), None)
on_host = pytest.mark.skipif(HOST is None, reason="no variant of the contract is this machine's")


def chain() -> Net:
    net = Net(image=(1, 16, 12, 12))
    x = net.conv("image", 16, act="Relu")
    x = net.conv(x, 16, act="Relu")
    net.conv(x, 16)
    return net


def made(variant: str = "x86-vnni"):
    net = chain()
    return quantized(net.model(net.nodes[-1].output[0]), contract(variant), lifted={"Conv_2": "lifted"})


@on_host
def test_a_lifted_layer_between_int8_layers_runs_in_float(tmp_path: Path) -> None:
    m = made()
    artifact = build(m.model, tmp_path)
    graph = executed(artifact.main, tmp_path)
    assert Counter(n.op_type for n in graph)["QLinearConv"] == 2
    found = audit(artifact, m.plan, load_target(HOST or ""))
    assert not found.unmatched
    assert "planned in float" not in found.summary


@on_host
def test_without_the_guard_the_audit_names_what_runs_in_int8(tmp_path: Path) -> None:
    m = made()
    path = tmp_path / "model.onnx"
    ir.save(m.model, path)
    summary = audit(Artifact(path), m.plan, load_target(HOST or "")).summary
    silent = Counter(n.op_type for n in executed(path, tmp_path))["QLinearConv"] == 3  # older versions do not do it
    assert silent == ("1 planned in float run in INT8 all the same: Conv_2" in summary)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_changes_no_number(variant: str) -> None:
    m = made(variant)
    guarded = guard(m.model)
    assert [n.name for n in guarded.graph if n.op_type == "Clip"] == ["relu_1_dequantized_guard"]
    batches = samples(m.source, 2)
    for a, b in zip(run(m.model, batches, optimize=False), run(guarded, batches, optimize=False), strict=True):
        assert (a == b).all()
    assert guard(guarded) is guarded


def test_a_float_model_is_handed_back() -> None:
    model = chain().model("conv_4").graph
    assert guard(model) is model
