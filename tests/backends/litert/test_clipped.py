"""A Clip behind an operator, to bounds that are no activation of TFLite: INT8, and codes as the graph has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from flow import quantized, samples
from graphs import Net

from dsedge.backends import litert
from dsedge.backends.litert.audit import delegation
from dsedge.backends.litert.read import read
from dsedge.data import Batch
from dsedge.model import Model
from dsedge.quant.interface import output_scales
from dsedge.target import load_target
from dsedge.verify import open_artifact, predictor, run_all

TARGET = load_target("raspberry-pi-5")
BOUNDS = [(-0.3, 0.7), (-2.0, 2.0), (-0.5, 0.5), (0.0, 0.8)]


def clipped(op: str, low: float, high: float, *, wide: bool = False) -> Model:
    """An operator with a Clip behind it; `wide`: which shares its scale with values that reach three times as far."""
    net = Net(x=(1, 8, 12, 12))
    first = net.conv("x", 8)
    if op == "Conv":
        y = net.conv(first, 8)
    elif op == "Add":
        y = net.op("Add", first, net.conv("x", 8))
    else:
        y = net.op("MaxPool", first, kernel_shape=[3, 3], pads=[1] * 4)
    y = net.op("Clip", y, net.const(low), net.const(high))
    if wide:
        beside = net.op("Clip", net.conv("x", 8), net.const(-3 * high), net.const(3 * high))
        y = net.op("MaxPool", net.op("Concat", y, beside, axis=1), kernel_shape=[2, 2])
    return net.model(y)


def far(model: Model, seed: int = 0) -> list[Batch]:
    """Samples that reach beyond all bounds."""
    return [Batch({k: 4 * v for k, v in b.feeds.items()}, 1, None) for b in samples(model, seed=seed)]


@dataclass(frozen=True)
class Found:
    """Operators of the file, those that XNNPACK runs, and how far codes are from the graph's, in steps."""

    ops: list[str]
    delegated: list[str]
    steps: np.ndarray


def found(model: Model, folder: Path) -> Found:
    m = quantized(model, litert.contract(TARGET), batches=far(model))
    artifact = litert.build(m.model, folder)
    assert {n.precision for n in m.plan.nodes.values()} == {"int8"}
    assert litert.audit(artifact, m.plan, TARGET).unmatched == {}
    batches = far(model, seed=1)
    (scale,) = output_scales(m.model.graph)
    assert scale is not None
    got = np.stack(run_all(open_artifact(litert, artifact.main, 1), batches))
    expected = np.stack(run_all(predictor(m.model, optimize=False), batches))
    operators = read(artifact.main)
    taken = delegation(artifact.main, operators)
    inside = [o.op for o in operators if taken.takes(o)]
    return Found([o.op for o in operators], inside, np.rint(np.abs(got - expected) / scale))


@pytest.mark.parametrize("op", ["Conv", "Add", "MaxPool"])
@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_codes_that_end_there_need_nothing(op: str, low: float, high: float, tmp_path: Path) -> None:
    """Ends are a code off where zero, which has a code, lies in the middle between two."""
    m = found(clipped(op, low, high), tmp_path)
    assert m.steps.max() <= 1
    if op != "MaxPool":  # which shares the range of what it reads
        assert m.ops == m.delegated


@pytest.mark.parametrize("op", ["Conv", "Add", "MaxPool"])
@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_codes_that_go_on_are_cut_exactly(op: str, low: float, high: float, tmp_path: Path) -> None:
    m = found(clipped(op, low, high, wide=True), tmp_path)
    assert m.steps.max() <= (0 if op == "MaxPool" else 1), "a convolution and a sum round in fixed point"
    assert (m.steps == 0).mean() > 0.99
    assert {"CONV_2D", {"Conv": "CONV_2D", "Add": "ADD", "MaxPool": "MAX_POOL_2D"}[op]} <= {*m.delegated}
    both = 2 if op == "MaxPool" else 1  # the pool's group is as wide as its input, beyond the other Clip's bounds too
    assert m.ops.count("MINIMUM") == both
    assert m.ops.count("MAXIMUM") == both - (low == 0.0), "zero is an activation's bound"
