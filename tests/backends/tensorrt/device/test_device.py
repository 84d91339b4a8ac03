"""The scripts of a bundle from build to result, on stand-ins for CUDA and for each TensorRT; ONNX Runtime computes.

What these tests show is that the scripts call each version only by names that it documents, and what they do with the
answers. That a real TensorRT accepts the graphs, and what it makes of them, they cannot show.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dsedge.backends.tensorrt.result import read_result
from dsedge.backends.tensorrt.settings import Graph, Profile
from dsedge.bench.runner import sqnr
from dsedge.bundle import sha256
from tests.backends.tensorrt.device.bundles import (
    call,
    cuda_library,
    device,
    finish,
    golden_of,
    of_a_compiled_one,
    python,
)

VERSIONS = ["8.5.2.2", "8.6.1", "10.3.0.26", "11.1.0"]


def at(tmp_path: Path, version: str, **variables: str) -> dict[str, str]:
    """A device with this TensorRT."""
    modules = str(Path(__file__).with_name("stand_in"))
    return device(
        tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path), PYTHONPATH=modules, TENSORRT_VERSION=version, **variables
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_from_the_graphs_to_a_result_that_is_read_back(bundle_folder: Path, tmp_path: Path, version: str) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, version)
    (folder / "timing.cache").write_bytes(b"of another version")
    ended = call(folder, environment, "build.py")
    assert ended.returncode == 0, ended.stderr
    record = json.loads((folder / "engine.json").read_text())
    planned = json.loads((folder / "build.json").read_text())["int8_nodes"]
    weak = version.startswith("8")
    assert record["graph"]["file"] == ("model.fp32.onnx" if weak else "model.fp16.onnx")
    assert record["flags"] == (["INT8", "FP16"] if weak else ["STRONGLY_TYPED"])
    assert record["int8"] == planned and not record["not_int8"] and record["warnings"] == ["a warning"]
    assert record["engine"]["sha256"] == sha256(folder / "engine.plan")
    assert (folder / "timing.cache").read_bytes() == b"cache"

    golden = call(folder, environment, "run.py")
    assert golden.returncode == 0 and json.loads(golden.stdout)["passed"], golden.stderr
    timed = json.loads(call(folder, environment, "run.py", "--bench", "--runs", "3").stdout)
    assert timed["device"] == {"median_ms": 1.5, "p90_ms": 1.5, "p99_ms": 1.5, "min_ms": 1.5, "runs": 3}
    assert timed["power_mode"] is None and timed["missing"]["power_mode"]

    ended = call(folder, environment, "verify.py", "--runs", "10", "--compare")
    assert ended.returncode == 0, ended.stderr
    result = read_result(folder)
    assert result.status == "measured" and result.tensorrt == version and result.int8 == planned
    assert list(result.latency) == ["int8", "fp16", "fp32"] and result.warnings == ["a warning"]
    assert result.latency["int8"].device.median_ms == 1.5 and result.tf32 and result.timing.warmup == 20
    for precision, typing in (("fp16", "weak" if weak else "strong"), ("fp32", "weak")):
        record = json.loads((folder / f"engine.{precision}.json").read_text())
        assert record["graph"]["file"] == {"weak": "model.fp32.onnx", "strong": "model.fp16.onnx"}[typing]
        assert record["int8"] == [] and record["not_int8"] == {} and record["layers"] > len(planned)
        # TensorRT 8 wants it while INT8 constants are in the network, read or not: the stand-in insists
        assert ("INT8" in record["flags"]) is weak


def test_the_float_engine_computes_what_the_weights_stand_for(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "11.1.0")
    assert call(folder, environment, "build.py", "--precision", "fp32").returncode == 0
    golden = golden_of(folder)
    np.savez(folder / "x.npz", **{onnx.load(folder / "model.fp32.onnx").graph.input[0].name: golden["input_0"][0]})
    code = """
import numpy as np, trt_runtime
run = trt_runtime.load("engine.fp32.plan")
(y,) = run(dict(np.load("x.npz")))
np.save("y.npy", y)
"""
    ended = python(code, environment, folder)
    assert ended.returncode == 0, ended.stderr
    assert sqnr(golden["float_0"][0], np.load(folder / "y.npy")) > sqnr(golden["float_0"][0], golden["expected_0"][0])


def test_on_another_gpu_nothing_is_built_and_when_asked_nothing_is_measured(
    bundle_folder: Path, tmp_path: Path
) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0", GPU_CAPABILITY="9.0")
    ended = call(folder, environment, "build.py")
    assert ended.returncode == 2 and not (folder / "engine.plan").exists()
    assert "this GPU is a A GPU of compute capability 9.0, and the bundle is for jetson-orin-nano (8.7)" in ended.stderr
    assert call(folder, environment, "build.py", "--any-gpu").returncode == 0
    assert call(folder, environment, "verify.py", "--runs", "10").returncode == 0
    result = read_result(folder)
    assert result.status == "verified" and "9.0" in result.warnings[0]
    assert "this is not the target: its compute capability is 9.0, and the target's 8.7" in result.warnings


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"GPU_NAME": "NVIDIA A30"}, "it calls itself NVIDIA A30"),
        ({"GPU_MIB": "30536"}, "it has 30536 MiB of memory, and the target 8192"),
    ],
)
def test_a_device_is_what_it_says_as_it_runs(
    bundle_folder: Path, tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    folder = of_a_compiled_one(bundle_folder)
    assert call(folder, at(tmp_path, "10.3.0"), "build.py").returncode == 0  # its record says that it is the target
    ended = call(folder, at(tmp_path, "10.3.0", **variables), "verify.py", "--runs", "10")
    assert ended.returncode == 0 and f"this is not the target: {said}" in ended.stdout
    result = read_result(folder)
    assert result.status == "verified" and any(said in warning for warning in result.warnings)


def test_the_usual_shape_is_timed_and_golden_samples_keep_theirs(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0")
    (name,) = json.loads((folder / "build.json").read_text())["profiles"]
    shape = list(golden_of(folder)["input_0"].shape[1:])
    usual = [3 * shape[0], *shape[1:]]
    three = Profile(min=shape, opt=usual, max=[8 * shape[0], *shape[1:]])
    settings = json.loads((folder / "build.json").read_text())
    settings["profiles"][name] = three.model_dump()
    (folder / "build.json").write_text(json.dumps(settings))
    assert call(folder, environment, "build.py").returncode == 0
    ended = call(folder, environment, "verify.py", "--runs", "10")
    assert ended.returncode == 0, ended.stderr
    result = read_result(folder)
    assert result.timing.shapes == {name: usual}
    assert result.golden.numbers == [golden_of(folder)["expected_0"].size]


def test_verify_before_build_says_what_to_run_first(bundle_folder: Path, tmp_path: Path) -> None:
    ended = call(of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0"), "verify.py", "--compare")
    assert ended.returncode == 2
    assert ended.stderr == "verify.py: engine.plan is not built yet: run python3 build.py on this device first\n"


def weak(folder: Path, **changes: Any) -> Path:
    """The bundle with its weakly typed graph only."""
    settings = json.loads((folder / "build.json").read_text())
    settings["graphs"] = [graph for graph in settings["graphs"] if graph["typing"] == "weak"]
    (folder / "build.json").write_text(json.dumps({**settings, **changes}))
    return folder


@pytest.mark.parametrize("version", ["8.5.2.2", "8.6.1", "10.3.0.26"])
def test_nodes_that_must_stay_in_float32_are_bound_to_it(bundle_folder: Path, tmp_path: Path, version: str) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, version)
    nodes = onnx.load(folder / "model.fp32.onnx").graph.node
    relu, gemm = (next(n.name for n in nodes if n.op_type == kind) for kind in ("Relu", "Gemm"))
    conv, *planned = json.loads((folder / "build.json").read_text())["int8_nodes"]
    assert gemm not in planned
    weak(folder, float32_nodes=[relu, gemm, conv])
    assert call(folder, environment, "build.py").returncode == 0
    flags = json.loads((folder / "engine.json").read_text())["flags"]
    assert flags == ["INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"]
    bound = json.loads((folder / "engine.layers.json").read_text())["Bound"]
    # a product in INT8 stays one; the second layer of a Gemm is the Gemm's too
    both = ["precision", "output"]
    assert bound == {relu: both, gemm: both, f"{gemm}_0": both, conv: ["output"]}
    assert call(folder, environment, "build.py", "--precision", "fp16").returncode == 0
    bound = json.loads((folder / "engine.fp16.layers.json").read_text())["Bound"]
    assert bound[conv] == both


def test_where_float16_loses_too_much_no_engine_has_it(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = weak(of_a_compiled_one(bundle_folder), fp16=False), at(tmp_path, "8.5.2.2")
    assert call(folder, environment, "build.py").returncode == 0
    assert json.loads((folder / "engine.json").read_text())["flags"] == ["INT8"]
    ended = call(folder, environment, "verify.py", "--runs", "10", "--compare")
    assert ended.returncode == 0, ended.stderr
    assert "not compared with fp16: build.py: float16 was tried where this was compiled" in ended.stdout
    assert list(read_result(folder).latency) == ["int8", "fp32"]


def test_a_graph_that_reached_less_is_judged_by_that(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0")
    golden = golden_of(folder)
    noise = np.random.default_rng(0).normal(size=golden["float_0"].shape).astype(np.float32)
    golden["float_0"] = golden["expected_0"] + noise * float(np.std(golden["expected_0"])) * 0.1
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    assert call(folder, environment, "build.py").returncode == 0
    assert "are off" in call(folder, environment, "verify.py", "--runs", "10").stderr
    settings = json.loads((folder / "build.json").read_text())
    settings["graphs"][1]["golden_sqnr_db"] = [20.0]
    (folder / "build.json").write_text(json.dumps(settings))
    assert call(folder, environment, "build.py").returncode == 0
    assert call(folder, environment, "verify.py", "--runs", "10").returncode == 0
    assert read_result(folder).status == "measured"


def test_wrong_outputs_leave_no_result(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0")
    assert call(folder, environment, "build.py").returncode == 0
    (folder / "device.json").write_text("of an earlier run")
    golden = golden_of(folder)
    np.savez(folder / "golden.npz", **{**golden, "float_0": golden["float_0"][..., ::-1] + 1})  # type: ignore[arg-type]
    ended = call(folder, environment, "verify.py", "--runs", "10")
    assert ended.returncode == 3 and "the golden outputs are off" in ended.stderr
    assert not (folder / "device.json").exists()


def test_what_only_keeps_verify_from_looking_leaves_the_earlier_result(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0")
    assert call(folder, environment, "build.py").returncode == 0
    (folder / "device.json").write_text("of an earlier run")
    ended = call(folder, {**environment, "CUDA_FAILS": "cudaGetDeviceCount:100"}, "verify.py", "--runs", "10")
    assert ended.returncode == 2 and (folder / "device.json").read_text() == "of an earlier run"


def test_an_engine_of_another_version_or_half_written_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    folder = of_a_compiled_one(bundle_folder)
    ended = call(folder, at(tmp_path, "8.6.1"), "run.py")
    assert ended.returncode == 2 and "engine.plan is not built yet: run python3 build.py" in ended.stderr
    assert call(folder, at(tmp_path, "8.6.1"), "build.py").returncode == 0
    ended = call(folder, at(tmp_path, "8.5.2"), "run.py")
    assert ended.returncode == 2 and "8.5.2 cannot open the engine: TensorRT 8.6.1 built it" in ended.stderr
    with (folder / "engine.plan").open("ab") as file:
        file.write(b"\0")
    ended = call(folder, at(tmp_path, "8.6.1"), "run.py")
    assert ended.returncode == 2 and "is not the engine that was built last" in ended.stderr


def test_without_pythons_module_trtexec_builds(bundle_folder: Path, tmp_path: Path) -> None:
    folder = of_a_compiled_one(bundle_folder)
    environment = device(tmp_path, LD_LIBRARY_PATH=cuda_library(tmp_path), TRTEXEC_VERSION="100300")
    assert call(folder, environment, "build.py").returncode == 0
    record = json.loads((folder / "engine.json").read_text())
    assert (record["made_by"], record["tensorrt"], record["gpu"]["cuda_runtime"]) == ("trtexec", "10.3.0", "12.6")
    assert set(record["int8"]) | set(record["not_int8"]) == set(
        json.loads((folder / "build.json").read_text())["int8_nodes"]
    )
    ended = call(folder, environment, "run.py")
    assert ended.returncode == 2 and "sudo apt install python3-libnvinfer" in ended.stderr


def graph(path: Path, inputs: dict[str, tuple[int, list[Any]]], node: onnx.NodeProto, opset: int = 17) -> None:
    """A graph of one node; its output "y" has open axes."""
    ins = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    kind = TensorProto.INT64 if node.op_type == "NonZero" else next(iter(inputs.values()))[0]
    out = helper.make_tensor_value_info("y", kind, ["a", "b"])
    made = helper.make_model(helper.make_graph([node], "g", ins, [out]), opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    onnx.save(made, path)


def small(
    tmp_path: Path, node: onnx.NodeProto, shape: list[Any], kind: int = TensorProto.FLOAT, **changes: Any
) -> Path:
    """A bundle of one node, with what `run.py` reads of a manifest."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    graph(folder / "model.fp32.onnx", {"x": (kind, shape)}, node)
    finish(folder, graphs=[Graph(file="model.fp32.onnx", precision="int8", typing="weak")], int8_nodes=[], **changes)
    specs = {"inputs": [{"name": "x", "shape": shape}], "outputs": [{"name": "y"}]}
    files = [{"path": "model.fp32.onnx", "role": "model"}]
    manifest = {"files": files, "model": specs, "runtime": {"name": "tensorrt"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def run_on(folder: Path, environment: dict[str, str], array: np.ndarray) -> tuple[str, np.ndarray | None]:
    """What run.py says of an input, and the output."""
    np.savez(folder / "x.npz", x=array)
    ended = call(folder, environment, "run.py", "--input", "x.npz", "--output", "y.npz")
    if ended.returncode:
        return ended.stderr, None
    with np.load(folder / "y.npz") as data:
        return ended.stderr, data["y"]


def test_open_axes_run_within_their_profile(tmp_path: Path) -> None:
    profile = Profile(min=[1, 4], opt=[2, 4], max=[8, 4])
    relu = helper.make_node("Relu", ["x"], ["y"])
    folder = small(tmp_path, relu, ["n", 4], dynamic=["x"], profiles={"x": profile})
    environment = at(tmp_path, "8.5.2")
    assert call(folder, environment, "build.py").returncode == 0
    for rows in (8, 1):
        array = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
        np.testing.assert_array_equal(run_on(folder, environment, array)[1], np.maximum(array, 0))
    said, none = run_on(folder, environment, np.zeros((9, 4), np.float32))
    assert none is None and "the shape [9, 4] is not within what the engine was built for: [-1, 4]" in said
    said, none = run_on(folder, environment, np.zeros((1, 4), np.int32))
    assert none is None and "the engine takes float32, not int32" in said


def test_open_axes_without_a_profile_are_refused(tmp_path: Path) -> None:
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), ["n", 4])
    ended = call(folder, at(tmp_path, "10.3.0"), "build.py")
    assert ended.returncode == 2 and "no profile for the open axes of x" in ended.stderr


@pytest.mark.parametrize("version", ["8.5.2", "10.3.0"])
def test_outputs_whose_shape_depends_on_data(tmp_path: Path, version: str) -> None:
    folder, environment = small(tmp_path, helper.make_node("NonZero", ["x"], ["y"]), [2, 2]), at(tmp_path, version)
    assert call(folder, environment, "build.py").returncode == 0
    got = run_on(folder, environment, np.array([[0, 1], [2, 0]], np.float32))[1]
    assert got is not None and got.tolist() == [[0, 1], [1, 0]]


def test_integers_that_an_older_engine_cannot_hold_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    folder, environment = small(tmp_path, node, [1, 2], TensorProto.INT64), at(tmp_path, "8.5.2")
    assert call(folder, environment, "build.py").returncode == 0
    got = run_on(folder, environment, np.array([[3, -4]]))[1]
    assert got is not None and got.dtype == np.int32 and got.tolist() == [[3, -4]]
    said, none = run_on(folder, environment, np.array([[3, 2**40]]))
    assert none is None and "the engine takes int32, not int64" in said


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("8.4.1", "TensorRT 8.5 to 11 is needed, and this is 8.4.1"),
        ("12.0", "TensorRT 8.5 to 11 is needed, and this is 12.0"),
        ("11.1.0", "no graph for int8 that TensorRT 11.1.0 reads (strong typing); the bundle has model.fp32.onnx"),
    ],
)
def test_a_tensorrt_that_reads_no_graph(tmp_path: Path, version: str, said: str) -> None:
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4])
    ended = call(folder, at(tmp_path, version), "build.py")
    assert ended.returncode == 2 and said in ended.stderr


def test_what_the_parser_refuses_is_said(tmp_path: Path) -> None:
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4])
    graph(folder / "model.fp32.onnx", {"x": (TensorProto.FLOAT, [1, 4])}, helper.make_node("Relu", ["x"], ["y"]), 19)
    settings = json.loads((folder / "build.json").read_text())
    settings["graphs"][0]["sha256"] = sha256(folder / "model.fp32.onnx")
    (folder / "build.json").write_text(json.dumps(settings))
    ended = call(folder, at(tmp_path, "8.5.2"), "build.py")
    assert ended.returncode == 2 and "TensorRT 8.5.2 cannot read model.fp32.onnx: opset 19" in ended.stderr
    assert not list(folder.glob("engine*"))


def test_bfloat16_by_a_flag_began_with_ten(tmp_path: Path) -> None:
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4])
    finish(folder, graphs=[Graph(file="model.fp32.onnx", precision="bf16", typing="weak")], precision="bf16")
    ended = call(folder, at(tmp_path, "8.5.2"), "build.py")
    assert ended.returncode == 2 and ended.stderr == "build.py: TensorRT 8.5.2 has no BF16: 10 has\n"


@pytest.mark.parametrize("text", ["[]", "{", "{}"])
def test_settings_that_are_none_are_no_traceback(tmp_path: Path, text: str) -> None:
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4])
    (folder / "build.json").write_text(text)
    ended = call(folder, at(tmp_path, "8.5.2"), "build.py")
    assert ended.returncode == 2 and ended.stderr.startswith("build.py: ") and len(ended.stderr.splitlines()) == 1


def test_a_changed_graph_is_refused(tmp_path: Path) -> None:
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4])
    (folder / "model.fp32.onnx").write_bytes(b"another")
    ended = call(folder, at(tmp_path, "8.5.2"), "build.py")
    assert ended.returncode == 2 and "model.fp32.onnx is not the file that was compiled" in ended.stderr


def test_a_graph_that_ten_cannot_parse_is_replaced_and_the_record_says_so(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0", PARSER_OPSET="17")
    assert call(folder, environment, "build.py").returncode == 0
    record = json.loads((folder / "engine.json").read_text())
    assert record["graph"]["file"] == "model.fp32.onnx" and record["flags"] == ["INT8", "FP16"]
    assert "cannot read model.fp16.onnx: n: opset" in record["warnings"][0]
    assert record["warnings"][1] == "engine.plan is built from model.fp32.onnx, weakly typed"
    ended = call(folder, environment, "build.py", "--precision", "fp16")
    assert ended.returncode == 0, ended.stderr
    assert json.loads((folder / "engine.fp16.json").read_text())["flags"] == ["FP16", "INT8"]
    ended = call(folder, {**environment, "PARSER_OPSET": "16"}, "build.py")
    assert ended.returncode == 2 and ended.stderr.count("cannot read") == 2


def test_options_of_the_builder(tmp_path: Path) -> None:
    options: dict[str, Any] = {"workspace_mib": 64, "sparsity": True}
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4], **options)
    ended = call(folder, at(tmp_path, "8.6.1", DLA_CORES="2"), "build.py", "--dla", "1", "--no-tf32")
    assert ended.returncode == 0, ended.stderr
    record = json.loads((folder / "engine.json").read_text())
    assert record["flags"] == ["INT8", "FP16", "SPARSE_WEIGHTS", "GPU_FALLBACK"] and record["tf32"] is False
    assert record["dla"]["core"] == 1
    assert record["warnings"][0].startswith("unverified: dsedge never ran on a DLA")
    assert record["warnings"][1] == "1 of 1 layers of the network cannot run on the DLA"


@pytest.mark.parametrize(
    ("cores", "version", "said"),
    [
        ("0", "10.3.0", "there is no DLA core 0: this machine has no DLA: Xavier, Orin NX and AGX Orin have one"),
        ("2", "10.9.0", "the DLA needs TensorRT 8.5 to 10.7, or 11.4 and later, and this is 10.9.0"),
    ],
)
def test_a_dla_that_is_not_there(tmp_path: Path, cores: str, version: str, said: str) -> None:
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4])
    ended = call(folder, at(tmp_path, version, DLA_CORES=cores), "build.py", "--dla", "0")
    assert ended.returncode == 2 and ended.stderr == f"build.py: {said}\n"


@pytest.mark.parametrize(("gpu", "override", "found"), [("7.5", "1", False), ("8.0", "1", True), ("8.0", "0", False)])
def test_tf32_is_what_the_gpu_has_and_nothing_forbids(tmp_path: Path, gpu: str, override: str, found: bool) -> None:
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4])
    environment = at(tmp_path, "8.6.1", GPU_CAPABILITY=gpu, NVIDIA_TF32_OVERRIDE=override)
    assert call(folder, environment, "build.py", "--any-gpu").returncode == 0
    assert json.loads((folder / "engine.json").read_text())["tf32"] is found


def test_an_engine_in_float16_need_not_be_as_exact_as_the_float32_graph(bundle_folder: Path, tmp_path: Path) -> None:
    folder = of_a_compiled_one(bundle_folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["fidelity"]["golden_sqnr_db"] = [None]  # as of a graph without quantizers, on a CPU
    (folder / "manifest.json").write_text(json.dumps(manifest))
    golden = golden_of(folder)
    noise = np.random.default_rng(0).normal(size=golden["float_0"].shape)
    golden["float_0"] = golden["expected_0"] * (1 + noise.astype(np.float32) * 10 ** (-45 / 20))
    np.savez(folder / "golden.npz", **golden)  # type: ignore[arg-type]
    environment = at(tmp_path, "10.3.0")
    assert call(folder, environment, "build.py").returncode == 0
    assert call(folder, environment, "verify.py", "--runs", "10").returncode == 0
    assert read_result(folder).golden.sqnr_db[0] == pytest.approx(45, abs=3)


@pytest.mark.parametrize(
    ("script", "variables", "said"),
    [
        ("build.py", {"TENSORRT_FAILS": "build"}, "TensorRT built no engine: out of memory"),
        ("build.py", {"CUDA_FAILS": "cudaGetDeviceCount:35"}, "the driver is older than this CUDA runtime"),
        ("build.py", {"PYTHONPATH": "broken"}, "build.sh ended with 2"),
        ("verify.py", {"TENSORRT_FAILS": "open"}, "cannot open the engine: the memory may not be enough"),
        ("verify.py", {"CUDA_FAILS": "cudaMalloc:2"}, "out of memory. free memory of the GPU"),
        ("verify.py", {"PYTHONPATH": "broken"}, "libnvinfer.so.10: cannot open shared object file"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    bundle_folder: Path, tmp_path: Path, script: str, variables: dict[str, str], said: str
) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0")
    if script == "verify.py":
        assert call(folder, environment, "build.py").returncode == 0
    if "PYTHONPATH" in variables:
        message = "libnvinfer.so.10: cannot open shared object file"
        (tmp_path / "tensorrt.py").write_text(f"raise ImportError({message!r})")
        variables = {"PYTHONPATH": str(tmp_path)}
    before = sorted(path.name for path in folder.iterdir())
    ended = call(folder, {**environment, **variables}, script)
    assert ended.returncode == 2 and said in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == [
        name for name in before if name != "__pycache__"
    ]


def test_an_engine_to_compare_with_that_cannot_be_built_is_a_warning(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0")
    assert call(folder, environment, "build.py").returncode == 0
    ended = call(folder, {**environment, "TENSORRT_FAILS": "build"}, "verify.py", "--runs", "10", "--compare")
    assert ended.returncode == 0, ended.stderr
    result, said = read_result(folder), "build.py: TensorRT built no engine: out of memory"
    assert list(result.latency) == ["int8"]
    assert result.warnings[1:] == [f"not compared with {precision}: {said}" for precision in ("fp16", "fp32")]


def test_an_engine_of_the_bundle_that_lay_here_before_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0")
    assert call(folder, environment, "build.py").returncode == 0
    settings = json.loads((folder / "build.json").read_text())
    (folder / "build.json").write_text(json.dumps({**settings, "workspace_mib": 3}))
    ended = call(folder, environment, "verify.py")
    assert ended.returncode == 2 and "engine.plan was built for another bundle that lay here" in ended.stderr


def test_a_full_disk_leaves_the_files_as_they_were(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0")
    assert call(folder, environment, "build.py").returncode == 0
    before = {path.name: path.read_bytes() for path in folder.glob("engine*")}
    code = """
import pathlib, resource, signal, trt_files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
here = pathlib.Path(".")
trt_files.script("build.py", lambda: trt_files.publish({here / "engine.json": b"1", here / "engine.plan": bytes(9999)}))
"""
    ended = python(code, environment, folder)
    assert ended.returncode == 2 and ended.stderr == "build.py: [Errno 27] File too large: 'engine.plan'\n"
    assert {path.name: path.read_bytes() for path in folder.glob("engine*")} == before


def test_an_interrupt_is_no_traceback(tmp_path: Path) -> None:
    code = "import trt_files\ndef main(): raise KeyboardInterrupt\ntrt_files.script('build.py', main)"
    ended = python(code, device(tmp_path))
    assert (ended.returncode, ended.stderr) == (130, "build.py: interrupted\n")
