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
from dsedge.backends.tensorrt.settings import Dla, Graph, Profile
from dsedge.bundle import sha256
from tests.backends.tensorrt.device.bundles import call, cuda_library, device, finish, golden_of, of_a_compiled_one

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

    compare = ["--compare"] if version == VERSIONS[0] else []
    ended = call(folder, environment, "verify.py", "--runs", "10", *compare)
    assert ended.returncode == 0, ended.stderr
    result = read_result(folder)
    assert result.status == "measured" and result.tensorrt == version and result.int8 == planned
    assert list(result.latency) == (["int8", "fp16", "fp32"] if compare else ["int8"])
    assert result.latency["int8"].device.median_ms == 1.5


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


def test_wrong_outputs_leave_no_result(bundle_folder: Path, tmp_path: Path) -> None:
    folder, environment = of_a_compiled_one(bundle_folder), at(tmp_path, "10.3.0")
    assert call(folder, environment, "build.py").returncode == 0
    (folder / "device.json").write_text("of an earlier run")
    golden = golden_of(folder)
    np.savez(folder / "golden.npz", **{**golden, "float_0": golden["float_0"][..., ::-1] + 1})  # type: ignore[arg-type]
    ended = call(folder, environment, "verify.py", "--runs", "10")
    assert ended.returncode == 2 and "the golden outputs are off" in ended.stderr
    assert not (folder / "device.json").exists()


def test_an_engine_of_another_version_or_half_written_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    folder = of_a_compiled_one(bundle_folder)
    ended = call(folder, at(tmp_path, "8.6.1"), "run.py")
    assert ended.returncode == 2 and "engine.plan is not built yet: run python build.py" in ended.stderr
    assert call(folder, at(tmp_path, "8.6.1"), "build.py").returncode == 0
    ended = call(folder, at(tmp_path, "8.5.2"), "run.py")
    assert ended.returncode == 2 and "TensorRT 8.5.2 cannot open the engine, which TensorRT 8.6.1 built" in ended.stderr
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
    assert ended.returncode == 2 and "TensorRT cannot read model.fp32.onnx: opset 19" in ended.stderr
    assert not list(folder.glob("engine*"))


def test_a_changed_graph_is_refused(tmp_path: Path) -> None:
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4])
    (folder / "model.fp32.onnx").write_bytes(b"another")
    ended = call(folder, at(tmp_path, "8.5.2"), "build.py")
    assert ended.returncode == 2 and "model.fp32.onnx is not the file that was compiled" in ended.stderr


def test_options_of_the_builder(tmp_path: Path) -> None:
    options: dict[str, Any] = {"workspace_mib": 64, "sparsity": True, "optimization_level": 5, "dla": Dla(core=1)}
    folder = small(tmp_path, helper.make_node("Relu", ["x"], ["y"]), [1, 4], **options)
    ended = call(folder, at(tmp_path, "8.6.1"), "build.py")
    assert ended.returncode == 0, ended.stderr
    record = json.loads((folder / "engine.json").read_text())
    assert record["flags"] == ["INT8", "FP16", "SPARSE_WEIGHTS", "GPU_FALLBACK"]
    assert "never ran on a DLA" in record["warnings"][0]
    assert record["warnings"][1] == "1 of 1 layers of the network cannot run on the DLA"
