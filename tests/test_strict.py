"""Refusing what would compute on anything but codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flow import contract, quantized
from graphs import Net

import dsedge
from dsedge.errors import CheckError
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.precision import annotate_as_asked, parse_request
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


def test_weights_of_few_bits_under_float_activations_are_no_int8() -> None:
    net = Net(x=(64, 1, 512))
    y = net.op("MatMul", "x", net.weight(512, 256, fan_in=512))
    states, _ = net.ops("LSTM", y, net.weight(1, 512, 256), net.weight(1, 512, 128), count=2, hidden_size=128)
    graph = normalize(net.model(net.op("MatMul", states, net.weight(128, 256, fan_in=128))))[0].graph.graph
    plans = {asked: annotate_as_asked(graph, contract(), parse_request(asked)) for asked in ("int8", "int4", "fp16")}
    for asked, words in {"int8": "INT8", "int4": "INT4", "fp16": "FP16"}.items():
        with pytest.raises(CheckError) as caught:
            require_int8(plans[asked])
        error = caught.value
        assert f"{words} weights under float activations: " in str(error.because)
        assert ("(LSTM)" in str(error.because), "(Gemm)" in str(error.because)) == (True, asked != "int8")
        refused = 1 if asked == "int8" else 3
        assert error.what.startswith(f"{refused} of 3 operators"), "nor shapes nor moves are part of it"


def test_nothing_that_smoothing_puts_in_is_held_against_a_model(tmp_path: Path) -> None:
    """A channel a hundred times greater than the others asks for a multiplication in front of the linear layer."""
    net = Net(x=(64, 256))
    model = net.model(net.gemm("x", 256, 256))
    rows = np.random.default_rng(0).standard_normal((4, 64, 256)).astype(np.float32)
    rows[:, :, 3] *= 100
    options = {"target": BOARD, "runtime": "onnxruntime", "calibration": [{"x": each} for each in rows]}
    assert "smoothed" in str(dsedge.compile(model, **options, output=tmp_path / "a").manifest.precision.islands)
    bundle = dsedge.compile(model, **options, output=tmp_path / "b", strict_int8=True)
    assert (bundle.manifest.precision.float_ops, bundle.manifest.precision.int8_ops) == (0, 1)
