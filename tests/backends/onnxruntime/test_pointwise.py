"""A pointwise convolution that only float operators read writes float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from flow import VARIANTS, Quantized, contract, executed, quantized, run, samples, worst_sqnr
from graphs import Net

from dsedge.backends import onnxruntime as backend
from dsedge.backends.onnxruntime.lower import lower
from dsedge.model import Model
from dsedge.target import load_target

HOST = next((name for name in VARIANTS.values() if load_target(name).matches_host()[0]), None)
on_host = pytest.mark.skipif(HOST is None, reason="no variant of the contract is this machine's")


def head(kind: str, batch: int | str = 1) -> Model:
    """A convolution, a pointwise one, and what a detector or a segmentation does with it."""
    net = Net(image=(batch, 8, 12, 12))
    x = net.conv("image", 32, act="Relu")
    y = net.conv(x, 3 * 7, 1)
    if kind == "anchors":
        y = net.op("Transpose", net.op("Reshape", y, net.ints(0, 3, 7, 12, 12)), perm=[0, 1, 3, 4, 2])
    elif kind == "softmax":
        y = net.op("Softmax", y, axis=1)
    elif kind == "strided":
        y = net.conv(x, 5, 1, strides=[2, 2])
    elif kind == "relu":
        y = net.op("Softmax", net.conv(x, 21, 1, act="Relu"), axis=1)
    elif kind == "read twice":
        return net.model(net.op("Softmax", y, axis=1), net.conv(y, 4))
    return net.model(net.op("Tanh", y) if kind == "anchors" else y)


def made(kind: str, batch: int | str = 1, variant: str = "x86-vnni") -> Quantized:
    return quantized(head(kind, batch), contract(variant))


@on_host
@pytest.mark.parametrize(
    ("kind", "gemms"), [("", 1), ("anchors", 1), ("softmax", 1), ("strided", 0), ("relu", 0), ("read twice", 0)]
)
def test_it_runs_as_a_product_with_a_float_result(kind: str, gemms: int, tmp_path: Path) -> None:
    m = made(kind, variant=next(v for v, name in VARIANTS.items() if name == HOST))
    artifact = backend.build(m.model, tmp_path)
    found = backend.audit(artifact, m.plan, load_target(HOST or ""))
    assert found.unmatched == {}
    assert "dequantized at every inference" not in found.summary
    counts = Counter(n.op_type for n in executed(artifact.main, tmp_path))
    assert counts["QGemm"] == gemms


@pytest.mark.parametrize("variant", ["x86-vnni", "arm-dotprod"])
@pytest.mark.parametrize("kind", ["", "anchors", "softmax"])
@pytest.mark.parametrize("batch", [1, "N"])
def test_it_computes_the_same(kind: str, batch: int | str, variant: str) -> None:
    m = made(kind, batch, variant)
    batches = samples(m.source, 4)
    simulated = worst_sqnr(m.graph, m.model, batches, optimize=False)
    assert simulated > 25
    assert worst_sqnr(m.model, lower(m.model), batches) > 60
    assert [a.shape for a in run(m.model, batches)] == [a.shape for a in run(lower(m.model), batches)]


def test_the_output_keeps_its_name() -> None:
    m = made("anchors")
    assert [v.name for v in lower(m.model).graph.outputs] == [v.name for v in m.source.graph.graph.outputs]
