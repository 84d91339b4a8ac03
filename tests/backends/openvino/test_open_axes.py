"""Open axes stay open in the artifact: batch, length of a sequence, size of an image, in float and in INT8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flow import quantized
from graphs import Net, gru, lstm

pytest.importorskip("openvino")

from dsedge.backends import openvino as backend
from dsedge.bench.runner import sqnr
from dsedge.data import Batch
from dsedge.model import Model
from dsedge.target import load_target
from dsedge.verify import predictor

CONTRACT = backend.contract(load_target("pos-x86"))
Shapes = tuple[tuple[int, ...], ...]


def perceptron() -> Model:
    net = Net(x=("N", 256))
    return net.model(net.gemm(net.act("Relu", net.gemm("x", 256, 512)), 512, 64))


def images() -> Model:
    net = Net(x=("N", 8, "H", "W"))
    y = net.conv("x", 16, act="Relu")
    return net.model(net.conv(y, 8), net.head(y))


def tokens() -> Model:
    net = Net(x=("N", "T", 32))
    y = net.op("Add", net.op("MatMul", "x", net.weight(32, 64, fan_in=32)), net.weight(64, fan_in=64))
    return net.model(net.op("MatMul", net.op("Relu", y), net.weight(64, 32, fan_in=64)))


def batched(op: str, gates: int) -> Model:
    net = Net(x=("T", "N", 8))
    weights = [net.weight(1, 16 * gates, k, fan_in=k) for k in (8, 16)]
    (y,) = net.ops(op, "x", *weights, net.weight(1, 32 * gates, fan_in=64), count=1, hidden_size=16)
    return net.model(net.op("MatMul", net.op("Squeeze", y, net.ints(1)), net.weight(16, 32)))


CASES: dict[str, tuple[Callable[[], Model], Shapes]] = {
    "a batch": (perceptron, ((1, 256), (2, 256), (7, 256))),
    "images of any size": (images, ((1, 8, 12, 12), (3, 8, 5, 9), (1, 8, 1, 1))),
    "sequences of any length": (tokens, ((1, 5, 32), (2, 1, 32), (1, 40, 32))),
    "LSTM": (lstm, ((5, 1, 8), (1, 1, 8), (17, 1, 8))),
    "LSTM in both directions": (lambda: lstm("bidirectional", states=True), ((5, 1, 8), (1, 1, 8), (17, 1, 8))),
    "LSTM over a batch": (lambda: batched("LSTM", 4), ((5, 2, 8), (1, 1, 8), (9, 3, 8))),
    "GRU": (gru, ((5, 1, 8), (1, 1, 8), (17, 1, 8))),
    "GRU over a batch": (lambda: batched("GRU", 3), ((5, 2, 8), (1, 1, 8), (9, 3, 8))),
}


@pytest.mark.parametrize("case", CASES)
def test_every_length_gives_what_the_graph_says(case: str, tmp_path: Path) -> None:
    make, shapes = CASES[case]
    rng = np.random.default_rng(0)
    samples = [{"x": rng.standard_normal(shape, dtype=np.float32)} for shape in shapes]
    m = quantized(make(), CONTRACT, batches=[Batch(samples[0], 1, None)])
    assert m.plan.quantized
    for name, graph in (("float", m.graph), ("int8", m.model)):
        (tmp_path / name).mkdir()
        predict = backend.load(backend.build(graph, tmp_path / name).main, 1)
        wanted = predictor(graph, optimize=False)
        for sample in samples:
            for mine, reference in zip(predict(sample), wanted(sample), strict=True):
                assert mine.shape == reference.shape
                assert (sqnr(reference, mine) or 99) > 50


def test_recurrent_layers_stay_float_and_what_reads_them_is_int8() -> None:
    for op, gates in (("LSTM", 4), ("GRU", 3)):
        m = quantized(batched(op, gates), CONTRACT, batches=[Batch({"x": np.ones((5, 2, 8), np.float32)}, 1, None)])
        kinds = {plan.op_type: plan for plan in m.plan.nodes.values()}
        assert kinds[op].precision == "float" and "recurrent layers in float only" in kinds[op].reason
        assert kinds["Gemm" if "Gemm" in kinds else "MatMul"].precision == "int8"
