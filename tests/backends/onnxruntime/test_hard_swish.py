"""HardSwish on codes."""

from __future__ import annotations

import numpy as np
import pytest
from flow import contract, quantized, run, samples, worst_sqnr
from graphs import Net, chain

from dsedge.backends.onnxruntime.lower import lower
from dsedge.data import Batch


@pytest.mark.parametrize("variant", ["x86-vnni", "x86", "arm-dotprod", "arm"])
def test_it_computes_what_the_float_operator_between_quantizers_does(variant: str) -> None:
    source = chain("HardSwish")
    m = quantized(source, contract(variant))
    lowered = lower(m.model)
    ops = [node.op_type for node in lowered.graph]
    assert ops.count("QLinearMul") == ops.count("QLinearAdd") == 3
    assert "HardSwish" not in ops
    assert [n.name for n in lowered.graph if n.op_type == "QLinearMul"] == ["HardSwish_1", "HardSwish_3", "HardSwish_5"]
    batches = samples(source, 4, seed=1)
    before, after = (worst_sqnr(m.graph, model, batches, optimize=False) for model in (m.model, lowered))
    assert after > 25
    assert after > before - 1


def test_every_code_is_at_most_one_step_off() -> None:
    """Over a range that reaches far beyond -3 and 3 on both sides."""
    net = Net(x=(1, 4, 8, 8))
    keep = net.const(np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1))
    model = net.model(net.op("Conv", net.op("HardSwish", net.op("Conv", "x", keep)), keep))
    batches = [Batch({"x": np.linspace(-6, 9, 256, dtype=np.float32).reshape(1, 4, 8, 8)}, 1, None)]
    m = quantized(model, batches=batches)
    params = m.plan.values["hardswish_1"].qparams
    assert params is not None
    step = float(params.scale)
    (expected,), (got,) = run(m.model, batches, optimize=False), run(lower(m.model), batches, optimize=False)
    assert np.abs(expected - got).max() <= 1.01 * step
    assert np.isclose(got[0], 0, atol=step)


def test_one_that_is_an_output_or_stands_in_float_stays() -> None:
    net = Net(x=(1, 8, 6, 6))
    m = quantized(net.model(net.op("HardSwish", net.conv("x", 8))))
    assert m.precision("HardSwish_1") == "float"
    assert lower(m.model) is m.model
