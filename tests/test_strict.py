"""Refusing what would stay in float."""

from __future__ import annotations

from pathlib import Path

import pytest
from flow import quantized
from graphs import Net

import dsedge
from dsedge.errors import CheckError
from dsedge.model import Model
from dsedge.strict import require_int8

BOARD = "raspberry-pi-5"


def with_softmax() -> Model:
    net = Net(x=(1, 8, 12, 12))
    return net.model(net.op("Softmax", net.head(net.conv("x", 16, act="Relu"))))


def convolutions() -> Model:
    net = Net(x=(1, 8, 12, 12))
    return net.model(net.conv(net.conv("x", 16, act="Relu"), 8))


def test_a_float_operator_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(CheckError) as caught:
        dsedge.compile(
            with_softmax(),
            target=BOARD,
            runtime="onnxruntime",
            calibration="random",
            strict_int8=True,
            output=tmp_path / "out",
        )
    error = caught.value
    assert (error.code, error.exit_code, error.where) == ("DS202", 2, "--strict-int8")
    assert error.because is not None and "(Softmax): QLinearSoftmax is several times slower" in error.because
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == []


def test_all_in_int8_is_compiled(tmp_path: Path) -> None:
    """The Transpose at the input, which --io-layout writes, computes nothing."""
    bundle = dsedge.compile(
        convolutions(),
        target=BOARD,
        runtime="onnxruntime",
        calibration="random",
        strict_int8=True,
        io_layout="nhwc",
        output=tmp_path / "out",
    )
    assert bundle.manifest.precision.precision == "int8"


def test_what_the_runtime_left_in_float_counts() -> None:
    plan = quantized(convolutions()).plan
    require_int8(plan)
    with pytest.raises(CheckError) as caught:
        require_int8(plan, {"Conv_0": "its pattern did not match"})
    assert caught.value.because == "Conv_0 (Conv): its pattern did not match"
