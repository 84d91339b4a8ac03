"""The flow: a model and a board with an NVIDIA GPU in, a bundle that waits for its device out."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from flow import samples
from graphs import Net, chain, image, residual

import dsedge
from dsedge.backends.tensorrt import oracle
from dsedge.backends.tensorrt.settings import SCRIPTS, Profile, Settings
from dsedge.bundle import Bundle
from dsedge.errors import DsedgeError
from dsedge.frontend.shapes import fix_shapes
from dsedge.inspect import inspect_artifact
from dsedge.model import Model
from dsedge.verify import verify_bundle
from tests.backends.tensorrt.device.bundles import call, cuda_library, device

compiles = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
FILES = {"golden.npz", "plan.json", "report.html", "build.json", "build.conf", "manifest.json", *SCRIPTS}


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "version", lambda: None)


def compiled(model: Model, folder: Path, target: str = "jetson", **options: Any) -> Bundle:
    data = [batch.feeds for batch in samples(model, 4)]
    return dsedge.compile(model, target=target, calibration=data, output=folder / "out", **options)


def settings(bundle: Bundle) -> Settings:
    return Settings.model_validate_json((bundle.path / "build.json").read_bytes())


def refused(code: str, *args: Any, **options: Any) -> str:
    with pytest.raises(DsedgeError) as caught:
        compiled(*args, **options)
    assert caught.value.code == code
    assert not (args[1] / "out").exists()
    return str(caught.value)


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("target", ["jetson", "jetson-agx-orin", "jetson-xavier-nx", "t4", "a100"])
def test_a_bundle_waits_for_its_device(target: str, tmp_path: Path) -> None:
    bundle = compiled(residual(), tmp_path, target)
    manifest, found = bundle.manifest, settings(bundle)
    graphs = {"model.fp32.onnx", "model.fp16.onnx", "model.float.onnx"}
    assert {path.name for path in bundle.path.iterdir()} == FILES | graphs
    assert {info.path for info in manifest.files} == FILES - {"manifest.json"} | graphs
    assert bundle.file("model").name == "model.fp32.onnx"
    assert (manifest.status, manifest.runtime.version) == ("deferred", "")
    assert manifest.precision.audit.startswith("not audited here: tensorrt-rtx is not installed (pip install")
    assert not manifest.precision.audited
    assert "verified as a graph on onnxruntime; the engine is built on the device, by build.py" in manifest.notes
    assert any("the open batch axis of 'x' is 1" in note for note in manifest.notes)
    assert any(note.startswith("model.fp16.onnx, for TensorRT 10 and 11") and "dB" in note for note in manifest.notes)
    assert manifest.latency == []
    assert found.precision == "int8"
    assert {graph.file for graph in found.graphs} == graphs
    assert [node.partition("_")[0] for node in found.int8_nodes] == ["Conv"] * 5, "its head is too narrow"
    assert found.dynamic == []
    capabilities = {"jetson-xavier-nx": "7.2", "t4": "7.5", "a100": "8.0"}
    assert found.target.compute_capability == capabilities.get(target, "8.7")
    assert (found.workspace_mib is None) == (target in ("t4", "a100")), "a Jetson's GPU shares the memory"
    opset = {file: onnx.load(bundle.path / file).opset_import[0].version for file in graphs}
    assert opset["model.fp32.onnx"] == 17 and opset["model.fp16.onnx"] >= 19
    assert verify_bundle(bundle)["device"] is None


@compiles
@pytest.mark.parametrize(("target", "said"), [("a100", "for compute capability 8.0"), ("jetson", "by proxy")])
def test_a_compiler_that_was_asked_is_in_the_status(target: str, said: str, tmp_path: Path) -> None:
    manifest = compiled(residual(), tmp_path, target).manifest
    assert manifest.status == "checked"
    assert manifest.precision.audited
    assert manifest.precision.audit.startswith("5 of 5 products run on codes") and said in manifest.precision.audit
    assert manifest.latency == []


@compiles
def test_where_it_cannot_tell_the_bundle_stays_deferred(tmp_path: Path) -> None:
    manifest = compiled(residual(), tmp_path, "jetson-xavier-nx").manifest
    assert manifest.status == "deferred"
    assert manifest.precision.audit == ("not audited here: tensorrt-rtx builds for nothing near compute capability 7.2")


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("precision", ["fp16", "fp32", "int4", "bf16"])
def test_precisions(precision: str, tmp_path: Path) -> None:
    net = Net(x=("N", 256))
    source = net.model(net.gemm(net.act("Relu", net.gemm("x", 256, 256)), 256, 256))
    bundle = compiled(source, tmp_path, "a100", precision=precision)
    found = settings(bundle)
    assert found.precision == precision
    own = {(graph.file, graph.typing) for graph in found.graphs if graph.precision == found.precision}
    assert own
    assert bundle.manifest.status == "deferred"
    if precision == "int4":
        assert own == {("model.fp16.onnx", "strong")} and bundle.file("model").name == "model.fp16.onnx"
        assert onnx.TensorProto.INT4 in {t.data_type for t in onnx.load(bundle.file("model")).graph.initializer}
    elif precision == "bf16":
        assert own == {("model.bf16.onnx", "strong"), ("model.float.onnx", "weak")}
        near = bundle.manifest.fidelity
        assert near is not None and near.sqnr_db is not None and 25 < near.sqnr_db < 60, "rounded, as the engine does"
    else:
        assert ("model.fp32.onnx", "weak") in own
    verify_bundle(bundle)
    assert inspect_artifact(bundle) is None, "it is an ONNX file"


@pytest.mark.parametrize(
    ("target", "precision", "because"),
    [("t4", "int4", "8.0"), ("jetson-xavier-nx", "bf16", "Ampere"), ("a100", "int8_dynamic", "scales")],
)
def test_a_precision_that_the_chip_lacks(target: str, precision: str, because: str, tmp_path: Path) -> None:
    assert because in refused("DS146", chain(), tmp_path, target, precision=precision)


def test_an_open_axis_that_is_no_batch_needs_a_length_or_a_range(tmp_path: Path) -> None:
    net = Net(x=("N", "T", 32))
    source = net.model(net.op("Relu", net.op("MatMul", "x", net.weight(32, 32))))
    assert "--shape x=1,128,32" in refused("DS106", source, tmp_path)


@pytest.mark.usefixtures("without_compiler")
def test_a_range_becomes_a_profile(tmp_path: Path) -> None:
    bundle = compiled(chain(), tmp_path, shapes={"x": "1:4:16,8,12,12"})
    found = settings(bundle)
    assert found.dynamic == ["x"]
    assert found.profiles["x"] == Profile(min=[1, 8, 12, 12], opt=[4, 8, 12, 12], max=[16, 8, 12, 12])
    assert bundle.manifest.model.inputs[0]["shape"] == ["N", 8, 12, 12]
    with np.load(bundle.file("golden")) as golden:
        assert golden["input_0"].shape[1:] == (1, 8, 12, 12)
    model = fix_shapes(chain(), {"x": "2:4:16,8,12,12"})
    assert "[1, 8, 12, 12]" in refused("DS122", model, tmp_path / "other"), "the samples have a batch of 1"


@compiles
def test_the_compiler_is_asked_with_the_profile(tmp_path: Path) -> None:
    assert compiled(residual(), tmp_path, "a100", shapes={"x": "1:4:16,8,12,12"}).manifest.status == "checked"


def test_an_operator_without_an_importer(tmp_path: Path) -> None:
    net = image()
    y = net.op("MaxRoiPool", net.conv("x", 16), net.const(np.zeros((1, 5), np.float32)), pooled_shape=[2, 2])
    text = refused("DS201", net.model(y), tmp_path)
    assert "MaxRoiPool" in text and "no importer" in text


def quantized_by_hand(scale: float) -> Model:
    """A convolution with pairs of its own."""
    net = Net(x=(1, 16, 8, 8))
    pair = [net.const(np.float32(scale)), net.const(np.int8(0))]
    y = net.op("DequantizeLinear", net.op("QuantizeLinear", "x", *pair), *pair)
    codes = net.const(net.rng.integers(-127, 127, (16, 16, 3, 3)).astype(np.int8))
    weight = net.op("DequantizeLinear", codes, net.const(np.float32(0.01)), net.const(np.int8(0)))
    return net.model(net.op("Conv", y, weight, pads=[1, 1, 1, 1]))


@pytest.mark.usefixtures("without_compiler")
def test_a_model_that_came_quantized(tmp_path: Path) -> None:
    assert compiled(quantized_by_hand(0.02), tmp_path).manifest.status == "deferred"


@pytest.mark.usefixtures("without_compiler")
def test_the_lint_ends_the_compilation_with_all_that_it_found(tmp_path: Path) -> None:
    for scale, code in ((1e-39, "TRT011"), (np.inf, "TRT011"), (-1.0, "TRT010")):
        text = refused("DS404", quantized_by_hand(scale), tmp_path)
        assert "model.fp32.onnx" in text and text.count(f"{code}: QuantizeLinear 'QuantizeLinear_0'") == 1
        assert f"{code}: DequantizeLinear 'DequantizeLinear_1'" in text


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize(("version", "target"), [("8.5.2.2", "jetson-xavier-nx"), ("10.3.0.26", "jetson")])
def test_from_the_compilation_to_the_report_of_a_device(version: str, target: str, tmp_path: Path) -> None:
    """On stand-ins for CUDA and TensorRT, in which ONNX Runtime computes."""
    bundle = compiled(residual(), tmp_path, target, shapes={"x": "1:4:16,8,12,12"})
    capability = settings(bundle).target.compute_capability
    modules = str(Path(__file__).parent / "device" / "stand_in")
    variables = {"TENSORRT_VERSION": version, "PYTHONPATH": modules, "GPU_CAPABILITY": capability}
    environment = device(tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path), **variables)
    for command in (["build.py"], ["run.py"], ["verify.py", "--runs", "10", "--compare"]):
        ended = call(bundle.path, environment, *command)
        assert ended.returncode == 0, ended.stderr
    found = verify_bundle(Bundle(bundle.path))
    assert found["status"] == "measured"
    assert "5 of 5 planned products run in INT8" in found["device"]
    assert [line.partition(":")[0] for line in found["device"][2:5]] == ["int8", "fp16", "fp32"]


def test_a_damaged_report_is_refused(tmp_path: Path) -> None:
    bundle = compiled(chain(), tmp_path)
    (bundle.path / "device.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(DsedgeError) as caught:
        verify_bundle(bundle)
    assert caught.value.code == "DS803" and caught.value.where == "device.json"


@compiles
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_graph_without_codes_is_checked_too(precision: str, tmp_path: Path) -> None:
    net = Net(x=("N", 256))
    source = net.model(net.gemm(net.act("Relu", net.gemm("x", 256, 256)), 256, 256))
    manifest = compiled(source, tmp_path, "a100", precision=precision).manifest
    assert manifest.status == "checked" and manifest.precision.audit.startswith("built by tensorrt-rtx")
    assert manifest.precision.bf16_ops == (3 if precision == "bf16" else 0)
