"""Models that come with Q/DQ pairs, as ONNX Runtime's own quantizer writes them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import dsedge
from dsedge.errors import LoadError
from dsedge.frontend import load
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.existing import is_qdq, read_plan, without_pairs
from tests import flow
from tests.graphs import Net

logging.getLogger().setLevel(logging.ERROR)  # the quantizer advises its users through the root logger


class _Noise(CalibrationDataReader):
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self._samples = iter([{name: rng.standard_normal(shape).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._samples, None)


def _net() -> Net:
    net = Net(image=(1, 3, 16, 16))
    x = net.conv("image", 32, act="Relu")
    x = net.op("Relu", net.op("Add", net.conv(x, 32), x))
    x = net.conv(net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 32, act="Relu")
    net.head(x)
    return net


def _quantized(
    folder: Path, *, activation: QuantType = QuantType.QUInt8, per_channel: bool = True
) -> tuple[Model, Path]:
    net = _net()
    source = folder / "float.onnx"
    onnx.save(net.proto(net.nodes[-1].output[0]), source)
    path = folder / "given.onnx"
    quantize_static(
        source,
        path,
        _Noise("image", (1, 3, 16, 16)),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=activation,
        weight_type=QuantType.QInt8,
    )
    return load(source), path


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_graph_without_pairs_is_the_float_model(tmp_path: Path, per_channel: bool) -> None:
    # ONNX Runtime's quantizer takes out Relus that saturation stands for: they come back.
    source, path = _quantized(tmp_path, per_channel=per_channel)
    given = load(path)
    assert is_qdq(given.graph) and not is_qdq(source.graph)
    floats, _ = normalize(given.with_graph(without_pairs(given.graph)))
    samples = flow.samples(source, 4)
    # What is left is the rounding of the weights.
    assert flow.worst_sqnr(source.graph, floats.graph, samples) > 30
    assert not is_qdq(floats.graph)


def test_the_plan_lists_what_reads_codes(tmp_path: Path) -> None:
    _, path = _quantized(tmp_path)
    graph, _ = normalize(load(path))
    plan = read_plan(graph.graph.graph, flow.contract())
    precisions = {n.op_type: n.precision for n in plan.nodes.values()}
    assert precisions["Conv"] == precisions["Add"] == precisions["MaxPool"] == precisions["Gemm"] == "int8"
    assert "QuantizeLinear" not in precisions


def _pair(net: Net, x: str, scale: np.ndarray, axis: int = 1) -> str:
    parameters = [net.const(scale), net.const(np.zeros(scale.shape, np.int8))]
    return net.op("DequantizeLinear", net.op("QuantizeLinear", x, *parameters, axis=axis), *parameters, axis=axis)


def test_float_weights_behind_a_pair_are_the_float_model(tmp_path: Path) -> None:
    # What training with simulated quantization exports: QuantizeLinear reads the weights themselves.
    models = []
    for given in (True, False):
        net = Net(x=(1, 8, 6, 6))
        weight = net.weight(16, 8, 3, 3)
        x = _pair(net, "x", np.float32(0.03)) if given else "x"
        weight = _pair(net, weight, np.full(16, 0.01, np.float32), axis=0) if given else weight
        models.append(net.model(net.op("Conv", x, weight)))
    with_pairs, source = models
    found = without_pairs(with_pairs.graph)
    assert not is_qdq(found)
    assert flow.worst_sqnr(source.graph, found, flow.samples(source, 2)) > 120


@pytest.mark.parametrize(("inputs_only", "precision"), [(True, "int8"), (False, "float")])
def test_a_product_behind_moved_values_reads_codes_where_quantizers_move(inputs_only: bool, precision: str) -> None:
    net = Net(x=(4, 8, 16))
    x = net.op("Reshape", _pair(net, "x", np.float32(0.03)), net.ints(32, 16))
    weight = net.op("Transpose", _pair(net, net.weight(8, 16), np.full(8, 0.01, np.float32), axis=0), perm=[1, 0])
    graph, _ = normalize(net.model(net.op("MatMul", x, weight)))
    plan = read_plan(graph.graph.graph, replace(flow.contract(), inputs_only=inputs_only))
    (product,) = [node for node in plan.nodes.values() if node.op_type == "MatMul"]
    assert product.precision == precision


def test_it_is_accepted_as_it_is(tmp_path: Path) -> None:
    _, path = _quantized(tmp_path)
    bundle = dsedge.compile(path, target="raspberry-pi-5", runtime="onnxruntime", output=tmp_path / "out")
    manifest = bundle.manifest
    assert manifest.calibration is None
    assert "the model came quantized: scales and placement are its own" in manifest.notes
    assert manifest.fidelity is not None and manifest.fidelity.sqnr_db is not None and manifest.fidelity.sqnr_db > 15
    assert manifest.float_bytes > 2 * bundle.file("model").stat().st_size


def test_pairs_that_do_not_run_in_int8_are_named(tmp_path: Path) -> None:
    # s8 asymmetric activations: ONNX Runtime on x86 leaves them in float.
    _, path = _quantized(tmp_path, activation=QuantType.QInt8)
    notes = dsedge.compile(path, target="pos-x86", runtime="onnxruntime", output=tmp_path / "out").manifest.notes
    assert any("has Q/DQ pairs and runs in float here" in note for note in notes)


def test_a_quantized_operator_without_pairs_is_refused(tmp_path: Path) -> None:
    net = _net()
    source, path = tmp_path / "float.onnx", tmp_path / "operators.onnx"
    onnx.save(net.proto(net.nodes[-1].output[0]), source)
    quantize_static(source, path, _Noise("image", (1, 3, 16, 16)), quant_format=QuantFormat.QOperator)
    with pytest.raises(LoadError, match=r"DS109.*QLinearConv"):
        dsedge.compile(path, target="pos-x86", calibration="random", output=tmp_path / "out")
