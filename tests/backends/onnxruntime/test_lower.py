from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from flow import Quantized, quantized, run, samples, worst_sqnr
from graphs import Net, chain, gru, lstm

from dsedge.backends.onnxruntime.lower import lower
from dsedge.bench.runner import sqnr
from dsedge.data import Batch
from dsedge.model import Model

WAYS = ("forward", "reverse", "bidirectional")


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("direction", WAYS)
@pytest.mark.parametrize("states", [False, True])
def test_an_lstm_becomes_dynamic_and_computes_the_same(direction: str, states: bool) -> None:
    m = quantized(lstm(direction, states=states))
    lowered = lower(m.model)
    assert ops(lowered).count("DynamicQuantizeLSTM") == 1
    assert not {"LSTM", "DequantizeLinear"} & set(ops(lowered))
    batches = samples(m.source, 8, seed=1)
    assert worst_sqnr(m.graph, lowered, batches) > 30
    names = [v.name for v in m.graph.graph.outputs]
    assert [v.name for v in lowered.graph.outputs] == names
    assert all(v.const_value is not None or v.is_graph_input() for v in lowered.graph.initializers.values())
    unused = [name for name, v in lowered.graph.initializers.items() if not v.uses()]
    assert unused == []
    size = len(ir.to_proto(lowered).SerializeToString())
    assert size < len(ir.to_proto(m.graph).SerializeToString()) / 1.5


def test_initial_states_and_lengths_are_passed_on() -> None:
    hidden = 16
    net = Net(x=(5, 2, 8), h=(1, 2, hidden), c=(1, 2, hidden))
    weights = [net.weight(1, 4 * hidden, k, fan_in=k) for k in (8, hidden)]
    lengths = net.const(np.array([5, 3], np.int32))
    peephole = net.weight(1, 3 * hidden, fan_in=16)
    operands = ["x", *weights, net.weight(1, 8 * hidden, fan_in=64), lengths, "h", "c", peephole]
    model = net.model(*net.ops("LSTM", *operands, count=3, hidden_size=hidden))
    m = quantized(model, normal=False)
    lowered = lower(m.model)
    assert "DynamicQuantizeLSTM" in ops(lowered)
    batches = samples(model, 4, seed=2)
    assert worst_sqnr(m.graph, lowered, batches) > 30
    zeros = [Batch(b.feeds | {k: np.zeros_like(b.feeds[k]) for k in "hc"}, 1, None) for b in batches]
    reference, got = run(m.graph, zeros), run(lowered, zeros)
    assert all(sqnr(a, b) > 30 for a, b in zip(reference, got, strict=True))


def test_without_bias_and_with_attributes() -> None:
    net = Net(x=(5, 1, 8))
    weights = [net.weight(1, 64, k, fan_in=k) for k in (8, 16)]
    attributes = {"hidden_size": 16, "activations": ["HardSigmoid", "Softsign", "Tanh"], "clip": 0.5}
    model = net.model(net.op("LSTM", "x", *weights, **attributes))
    m = quantized(model, normal=False)
    lowered = lower(m.model)
    (fused,) = [n for n in lowered.graph if n.op_type == "DynamicQuantizeLSTM"]
    assert list(fused.attributes["activations"].as_strings()) == attributes["activations"]
    assert fused.attributes["clip"].as_float() == 0.5
    assert worst_sqnr(m.graph, lowered, samples(model, 4)) > 30


def two_layers() -> Model:
    """Two layers with the same weights."""
    net = Net(x=(5, 1, 16))
    weights = [net.weight(1, 64, 16, fan_in=16) for _ in range(2)]
    y = net.op("LSTM", "x", *weights, hidden_size=16)
    y = net.op("LSTM", net.op("Squeeze", y, net.ints(1)), *weights, hidden_size=16)
    return net.model(y)


def test_layers_that_share_weights_share_them_still() -> None:
    m = quantized(two_layers())
    lowered = lower(m.model)
    first, second = [n for n in lowered.graph if n.op_type == "DynamicQuantizeLSTM"]
    assert first.inputs[1] is second.inputs[1]
    assert worst_sqnr(m.graph, lowered, samples(m.source, 4)) > 30


@pytest.mark.parametrize("model", [chain(), gru()], ids=["chain", "GRU"])
def test_without_an_lstm_nothing_happens(model: Model) -> None:
    m = quantized(model)
    assert lower(m.model) is m.model


def test_the_graph_that_is_given_stays() -> None:
    m: Quantized = quantized(lstm())
    before = ir.to_proto(m.model).SerializeToString()
    lower(m.model)
    assert ir.to_proto(m.model).SerializeToString() == before
    onnx.checker.check_model(before, full_check=True)
