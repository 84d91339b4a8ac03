"""What is said of a deferred bundle is said of the graph that its device builds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flow import samples
from graphs import residual

import dsedge
from dsedge.backends import tensorrt
from dsedge.backends.base import Predict
from dsedge.bench.runner import sqnr_of_samples
from dsedge.bundle import Bundle
from dsedge.passes.normalize import normalize
from dsedge.verify import predictor, verify_bundle

DATA = [batch.feeds for batch in samples(residual(), 8)]
FP32, FP16 = "model.fp32.onnx", "model.fp16.onnx"


def total(sign: float) -> Callable[[Predict], float]:
    """A metric of which every rounding changes the value."""
    return lambda predict: sign * float(sum(np.sum(predict(feeds)[0], dtype=np.float64) for feeds in DATA))


def compiled(folder: Path, target: str, sign: float = 1.0, max_drop: float | None = None) -> Bundle:
    return dsedge.compile(
        residual(), target=target, calibration=DATA, evaluate=total(sign), max_drop=max_drop, output=folder
    )


def distance(file: Path) -> float:
    """From the float model, in dB."""
    floats = predictor(normalize(residual())[0].graph, optimize=False)
    ratio = sqnr_of_samples(*([run(feeds)[0] for feeds in DATA] for run in (floats, tensorrt.load(file))))
    assert ratio is not None
    return float(ratio)


@pytest.mark.parametrize(("target", "file"), [("jetson", FP16), ("jetson-xavier-nx", FP32)])
def test_accuracy_is_that_of_the_graph_that_the_device_builds(target: str, file: str, tmp_path: Path) -> None:
    bundle = compiled(tmp_path / "out", target)
    (metric,) = bundle.manifest.metrics
    (row,) = (row for row in bundle.manifest.candidates if row.chosen)
    assert metric.quantized == total(1.0)(tensorrt.load(bundle.path / file))
    assert row.metric == metric
    near = bundle.manifest.fidelity
    assert near is not None and near.sqnr_db == row.sqnr_db == pytest.approx(distance(bundle.path / file), abs=1e-4)
    verify_bundle(bundle)


def test_the_gate_judges_that_graph_too(tmp_path: Path) -> None:
    bundle = compiled(tmp_path / "first", "jetson")
    of_fp32, of_fp16 = (total(1.0)(tensorrt.load(bundle.path / file)) for file in (FP32, FP16))
    assert of_fp32 != of_fp16
    sign = float(np.sign(of_fp32 - of_fp16))  # so that float16 is the worse one
    drops = [sign * (bundle.manifest.metrics[0].float - value) for value in (of_fp32, of_fp16)]
    limit = max(0.0, drops[0]) + (drops[1] - max(0.0, drops[0])) / 2
    assert limit < drops[1]
    judged = compiled(tmp_path / "second", "jetson", sign, limit)
    (gate,) = judged.manifest.failed
    assert gate.value == pytest.approx(drops[1], abs=1e-5) and gate.limit == limit
    assert judged.manifest.precision.precision == "int8", "there is no better one: it ships, and says so"
