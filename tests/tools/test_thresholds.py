"""The scripts behind the thresholds for convolutions build both sides of what they compare."""

from __future__ import annotations

from pathlib import Path

import depthwise_threshold
import pytest
import transposed_threshold
from common import HOST, float_against_int8

from dsedge.backends.base import load_backend
from dsedge.target import load_target

CONTRACT = load_backend("onnxruntime").contract(load_target(HOST))
pytestmark = pytest.mark.skipif(
    not load_target(HOST).matches_host()[0], reason="this machine does not have the target's instruction set"
)


def test_a_transposed_convolution_is_compared_with_an_int8_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transposed_threshold, "SECONDS", 0.0)
    case = transposed_threshold.Transposed(8, 4, 2, 2, 6)
    assert all(number > 0 for number in transposed_threshold.compare(case, CONTRACT, tmp_path))
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("up", "prepared")]
    assert sizes[0] != sizes[1]


def test_a_convolution_is_compared_in_both_precisions(tmp_path: Path) -> None:
    source = tmp_path / "depthwise.onnx"
    depthwise_threshold.write(source, 5, 1, 40)
    shape = (1, depthwise_threshold.INPUTS, depthwise_threshold.HEIGHT, depthwise_threshold.WIDTH)
    contract = depthwise_threshold.without_rule(CONTRACT)
    times = float_against_int8(source, contract, shape, ("depthwise", "relu"), tmp_path, 0.0)
    assert all(number > 0 for number in times)
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("float", "int8")]
    assert sizes[0] != sizes[1]
