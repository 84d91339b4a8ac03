"""The flow: a model and a board with an NVIDIA GPU in, a bundle that waits for its device out."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from flow import samples
from graphs import Net, chain, image, residual

import dsedge
from dsedge.backends.tensorrt import asked, build, load, oracle
from dsedge.backends.tensorrt.findings import linted
from dsedge.backends.tensorrt.settings import SCRIPTS, Profile, Settings, target_facts
from dsedge.bundle import Bundle
from dsedge.errors import DsedgeError
from dsedge.frontend.shapes import fix_shapes
from dsedge.inspect import inspect_artifact
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.report import summary
from dsedge.target import load_target
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
    graphs = {"model.fp32.onnx", "model.fp16.onnx"} if target != "jetson-xavier-nx" else {"model.fp32.onnx"}
    assert {path.name for path in bundle.path.iterdir()} == FILES | graphs
    assert {info.path for info in manifest.files} == FILES - {"manifest.json"} | graphs
    assert bundle.file("model").name == "model.fp32.onnx"
    assert (manifest.status, manifest.runtime.version) == ("deferred", "")
    assert manifest.precision.audit.startswith("not audited here: tensorrt-rtx is not installed (pip install")
    assert not manifest.precision.audited
    assert "verified as a graph on onnxruntime; the engine is built on the device, by build.py" in manifest.notes
    assert any("the open batch axis of 'x' is 1" in note for note in manifest.notes)
    told = "model.fp16.onnx, for TensorRT 10 and 11," if len(graphs) > 1 else "float16, in which the engine computes"
    assert any(note.startswith(told) and "on 4 samples" in note and "dB" in note for note in manifest.notes)
    assert manifest.latency == []
    assert found.precision == "int8"
    assert {graph.file for graph in found.graphs} == graphs
    assert [node.partition("_")[0] for node in found.int8_nodes] == ["Conv"] * 5, "its head is too narrow"
    assert found.dynamic == []
    capabilities = {"jetson-xavier-nx": "7.2", "t4": "7.5", "a100": "8.0"}
    assert found.target.compute_capability == capabilities.get(target, "8.7")
    assert (found.workspace_mib is None) == (target in ("t4", "a100")), "a Jetson's GPU shares the memory"
    opset = {file: onnx.load(bundle.path / file).opset_import[0].version for file in graphs}
    assert opset["model.fp32.onnx"] == 17 and opset.get("model.fp16.onnx", 19) >= 19
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
    made = bundle.manifest.precision
    assert made.total_ops == 3 and (made.fp16_ops, made.bf16_ops) == (
        3 * (precision == "fp16"),
        3 * (precision == "bf16"),
    )
    assert "stored" not in summary.precision(bundle.manifest) + summary.operators(bundle.manifest)
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
    for file in ("model.fp32.onnx", "model.fp16.onnx"):
        assert any(note.startswith(f"{file} runs in the least, usual and greatest") for note in bundle.manifest.notes)
    with np.load(bundle.file("golden")) as golden:
        assert golden["input_0"].shape[1:] == (1, 8, 12, 12)
    model = fix_shapes(chain(), {"x": "2:4:16,8,12,12"})
    assert "[1, 8, 12, 12]" in refused("DS122", model, tmp_path / "other"), "the samples have a batch of 1"


def test_a_model_that_does_not_run_in_the_whole_range(tmp_path: Path) -> None:
    net = Net(x=("N", 8, 12, 12))
    source = net.model(net.op("Relu", net.op("Reshape", net.conv("x", 16), net.ints(1, 16, 144))))
    text = refused("DS145", source, tmp_path, shapes={"x": "1:1:2,8,12,12"})
    assert "Reshape" in text and "a narrower range" in text


@pytest.mark.usefixtures("without_compiler")
def test_int4_leaves_what_exceeds_float16_in_float32(tmp_path: Path) -> None:
    net = Net(x=(16, 256))
    y = net.op("Mul", net.gemm("x", 256, 256), net.const(np.float32(5e4)))
    y = net.op("Mul", net.op("Relu", y), net.const(np.float32(2e-5)))
    bundle = compiled(net.model(net.gemm(y, 256, 256)), tmp_path, "a100", precision="int4")
    typed = onnx.shape_inference.infer_shapes(onnx.load(bundle.file("model"))).graph
    types = {info.name: info.type.tensor_type.elem_type for info in typed.value_info}
    assert [types[node.output[0]] for node in typed.node if node.op_type == "Relu"] == [onnx.TensorProto.FLOAT]
    verify_bundle(bundle)


def test_nobody_asks_about_a_float_graph_so_it_is_written_once(tmp_path: Path) -> None:
    build(normalize(chain())[0].graph, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.fp32.onnx"]


@compiles
def test_the_compiler_is_asked_with_the_profile(tmp_path: Path) -> None:
    assert compiled(residual(), tmp_path, "a100", shapes={"x": "1:4:16,8,12,12"}).manifest.status == "checked"


def test_an_operator_without_an_importer(tmp_path: Path) -> None:
    net = image()
    y = net.op("MaxRoiPool", net.conv("x", 16), net.const(np.zeros((1, 5), np.float32)), pooled_shape=[2, 2])
    text = refused("DS201", net.model(y), tmp_path)
    assert "MaxRoiPool" in text and "no importer" in text


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("target", ["a100", "jetson-xavier-nx"])
def test_what_is_asked_for_in_float32_is_not_computed_in_float16(target: str, tmp_path: Path) -> None:
    bundle = compiled(residual(), tmp_path, target, precision="int8,Gemm=fp32")
    assert [name.partition("_")[0] for name in settings(bundle).float32_nodes] == ["Gemm"]
    if target == "a100":
        typed = onnx.shape_inference.infer_shapes(onnx.load(bundle.path / "model.fp16.onnx")).graph
        weights = {tensor.name: tensor.data_type for tensor in typed.initializer}
        (gemm,) = (node for node in typed.node if node.op_type == "Gemm")
        assert weights[gemm.input[1]] == onnx.TensorProto.FLOAT


def lossy() -> Model:
    """It adds and subtracts a number beside which float16 holds little of the others."""
    net = image()
    y = net.op("Mul", net.op("Abs", net.conv("x", 16)), net.const(np.float32(20)))
    return net.model(net.op("Sub", net.op("Add", y, net.const(np.float32(20000))), net.const(np.float32(20000))))


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("target", ["a100", "jetson-xavier-nx"])
def test_where_float16_loses_too_much_it_is_not_allowed(target: str, tmp_path: Path) -> None:
    bundle = compiled(lossy(), tmp_path, target)
    found = settings(bundle)
    assert not found.fp16 and {graph.file for graph in found.graphs} == {"model.fp32.onnx"}
    assert any("in float16 it would be" in note for note in bundle.manifest.notes)
    text = refused("DS501", lossy(), tmp_path / "other", target, precision="fp16")
    assert "fp32" in text


@pytest.mark.usefixtures("without_compiler")
def test_what_exceeds_float16_stays_in_float32_in_all_graphs(tmp_path: Path) -> None:
    net = image()
    y = net.op("Mul", net.op("Abs", net.conv("x", 16)), net.const(np.float32(4e5)))
    y = net.op("Relu", net.op("Mul", y, net.const(np.float32(1e-5))))
    bundle = compiled(net.model(y), tmp_path, "a100")
    assert "Mul_2" in settings(bundle).float32_nodes and "Relu_4" not in settings(bundle).float32_nodes
    assert (bundle.path / "model.fp16.onnx").exists()


def gpu(target: str) -> dict[str, str]:
    """What the stand-in for CUDA is told, to be a target's."""
    facts = target_facts(load_target(target))
    return {
        "GPU_CAPABILITY": facts.compute_capability,
        "GPU_NAME": f"NVIDIA {facts.device_name}",
        "GPU_MIB": str(facts.memory_mib),
    }


@pytest.mark.usefixtures("without_compiler")
def test_what_opset_17_cannot_say_is_in_the_typed_graph_alone(tmp_path: Path) -> None:
    net = image()
    y = net.op("GroupNormalization", net.conv("x", 16, act="Relu"), net.weight(4), net.weight(4), num_groups=4)
    net.channels[y] = 16
    source = net.model(net.conv(y, 16, act="Relu"))
    bundle = compiled(source, tmp_path, "a100")
    assert bundle.file("model").name == "model.fp16.onnx" and bundle.manifest.precision.precision == "int8"
    graphs = [(graph.file, graph.precision, graph.typing) for graph in settings(bundle).graphs]
    assert graphs[0] == ("model.fp16.onnx", "int8", "strong")
    assert {file for file, *_ in graphs[1:]} == {"model.float.onnx"}
    verify_bundle(bundle)
    floats = compiled(source, tmp_path / "fp32", "a100", precision="fp32")
    assert floats.file("model").name == "model.float.onnx"
    text = refused("DS401", source, tmp_path / "xavier", "jetson-xavier-nx")
    assert "GroupNormalization" in text


@compiles
def test_a_refusal_by_the_compiler_is_said_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = oracle.check

    def refuses(*args: Any, **options: Any) -> oracle.Verdict:
        return replace(checked(*args, **options), layers=(), failure="no kernel was found")

    asked._ask.cache_clear()
    monkeypatch.setattr(oracle, "check", refuses)
    manifest = compiled(chain(), tmp_path, "a100").manifest
    assert manifest.status == "deferred" and not manifest.precision.audited
    assert any("does not build model.fp16.onnx" in n and "no kernel was found" in n for n in manifest.notes)
    errors = (oracle.ParserError("Conv_0", "Conv", "it does not like it"),)
    monkeypatch.setattr(oracle, "check", lambda *a, **o: replace(checked(*a, **o), layers=(), errors=errors))
    asked._ask.cache_clear()
    assert "does not like" in refused("DS404", chain(), tmp_path / "other", "a100")
    asked._ask.cache_clear()


@compiles
def test_a_graph_is_put_to_the_compiler_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked, calls = oracle.check, []
    asked._ask.cache_clear()
    monkeypatch.setattr(oracle, "check", lambda *a, **o: calls.append(a) or checked(*a, **o))
    bundle = compiled(chain(), tmp_path, "a100")
    assert len(calls) == 1 and "model.fp16.onnx" in bundle.manifest.precision.audit


@compiles
def test_a_graph_that_the_device_does_not_read_is_not_checked(tmp_path: Path) -> None:
    manifest = compiled(residual(), tmp_path, "jetson", precision="bf16").manifest
    assert manifest.status == "deferred" and "does not read model.bf16.onnx" in manifest.precision.audit
    assert manifest.precision.bf16_ops == manifest.precision.total_ops


@compiles
def test_where_there_is_no_typed_graph_the_other_is_checked(tmp_path: Path) -> None:
    manifest = compiled(lossy(), tmp_path, "a100").manifest
    assert manifest.status == "checked" and "builds model.fp32.onnx" in manifest.precision.audit


@pytest.mark.usefixtures("without_compiler")
def test_every_graph_of_a_bundle_opens_with_its_roundings(tmp_path: Path) -> None:
    bundle = compiled(chain(), tmp_path, "a100")
    feeds = samples(chain(), 1)[0].feeds
    whole, half = (load(bundle.path / name)(feeds)[0] for name in ("model.fp32.onnx", "model.fp16.onnx"))
    assert np.array_equal(half, half.astype(np.float16)) and not np.array_equal(whole, whole.astype(np.float16))


def test_what_the_lint_says_is_for_the_lowest_tensorrt_of_the_target() -> None:
    net = Net(x=(1, 4))
    model = normalize(net.model(net.op("Relu", "x")))[0].graph
    model.opset_imports[""] = 22
    with pytest.raises(DsedgeError, match=r"TensorRT 10\.3") as caught:
        linted({"model.fp16.onnx": model}, load_target("jetson"))
    assert caught.value.code == "DS404"
    (note,) = linted({"model.bf16.onnx": model}, load_target("jetson"))
    assert "10.6" in note


def half_quantized(net: Net, x: str) -> str:
    """A convolution that reads codes, and float weights."""
    pair = [net.const(np.float32(0.02)), net.const(np.int8(0))]
    y = net.op("DequantizeLinear", net.op("QuantizeLinear", x, *pair), *pair)
    return net.op("Conv", y, net.weight(16, 16, 3, 3), pads=[1, 1, 1, 1])


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
    bundle = compiled(quantized_by_hand(0.02), tmp_path)
    assert bundle.manifest.status == "deferred"
    assert [node.partition("_")[0] for node in settings(bundle).int8_nodes] == ["Conv"]


@compiles
def test_the_compiler_is_asked_about_the_products_of_a_model_that_came_quantized(tmp_path: Path) -> None:
    manifest = compiled(quantized_by_hand(0.02), tmp_path, "a100").manifest
    assert manifest.status == "checked" and manifest.precision.audit.startswith("1 of 1 products run on codes")


@pytest.mark.usefixtures("without_compiler")
def test_the_lint_ends_the_compilation_with_all_that_it_found(tmp_path: Path) -> None:
    for scale, code in ((1e-39, "TRT011"), (np.inf, "TRT011"), (-1.0, "TRT010")):
        text = refused("DS404", quantized_by_hand(scale), tmp_path)
        assert "model.fp32.onnx" in text and "in 1 place" in text
        assert text.count(f"{code}: a scale of {scale:g} (Conv 'Conv_3' input 0)") == 1


@pytest.mark.usefixtures("without_compiler")
def test_of_many_errors_three_are_shown(tmp_path: Path) -> None:
    net = Net(x=(1, 16, 8, 8))
    y = "x"
    for _ in range(5):
        y = half_quantized(net, y)
    text = refused("DS404", net.model(y), tmp_path)
    assert "in 5 places" in text and text.count("TRT007") == 1
    assert text.count("Conv 'Conv_") == 3 and "and 2 more" in text


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("target", ["a100", "jetson-xavier-nx"])
def test_a_channel_that_is_nearly_dead_is_no_error(target: str, tmp_path: Path) -> None:
    net = Net(x=(1, 16, 8, 8))
    net.conv("x", 16)
    weights = net.rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    weights[3] *= 1e-4
    net.nodes[-1].input[1] = net.const(weights)
    assert settings(compiled(net.model(net.nodes[-1].output[0]), tmp_path, target)).int8_nodes == ["Conv_0"]


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize(("version", "target"), [("8.5.2.2", "jetson-xavier-nx"), ("10.3.0.26", "jetson")])
def test_from_the_compilation_to_the_report_of_a_device(version: str, target: str, tmp_path: Path) -> None:
    """On stand-ins for CUDA and TensorRT, in which ONNX Runtime computes."""
    bundle = compiled(residual(), tmp_path, target, shapes={"x": "1:4:16,8,12,12"})
    modules = str(Path(__file__).parent / "device" / "stand_in")
    variables = {"TENSORRT_VERSION": version, "PYTHONPATH": modules, **gpu(target)}
    environment = device(tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path), **variables)
    for command in (["build.py"], ["run.py"], ["verify.py", "--runs", "10", "--compare"]):
        ended = call(bundle.path, environment, *command)
        assert ended.returncode == 0, ended.stderr
    found = verify_bundle(Bundle(bundle.path))
    assert found["status"] == "measured"
    assert "5 of 5 planned products run in INT8" in found["device"]
    times = [line.partition(":")[0] for line in found["device"] if "ms on the GPU" in line]
    assert times == ["int8", "fp16", "fp32"]


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize(("fails", "status"), [("", "measured"), ("build", "deferred")])
def test_where_the_device_is_here_the_compilation_ends_with_an_engine(
    fails: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = str(Path(__file__).parent / "device" / "stand_in")
    variables = {"TENSORRT_VERSION": "10.3.0", "PYTHONPATH": modules, "TENSORRT_FAILS": fails, **gpu("a100")}
    for name, value in (variables | {"LD_LIBRARY_PATH": cuda_library(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    bundle = compiled(residual(), tmp_path, "a100")
    manifest = bundle.manifest
    assert manifest.status == verify_bundle(bundle)["status"] == status
    assert (bundle.path / "engine.plan").exists() is (not fails)
    if fails:
        note = manifest.notes[-1]
        assert "no engine was built" in note and note.endswith("build.py: TensorRT built no engine: out of memory")
    else:
        assert manifest.runtime.version == "10.3.0"
        assert [row.precision for row in manifest.latency] == ["int8", "float16", "float32"]
        gate = next(gate for gate in manifest.gates if gate.name == "latency_vs_float")
        assert gate.value == 1.0 and gate.passed


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
    assert manifest.status == "checked" and f"builds model.{precision}.onnx" in manifest.precision.audit
    assert manifest.precision.bf16_ops == (3 if precision == "bf16" else 0)
