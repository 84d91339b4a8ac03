"""build.sh against a stand-in for trtexec that knows the options of each version and refuses all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsedge.backends.tensorrt.settings import Dla, Graph, Profile
from dsedge.bundle import sha256
from tests.backends.tensorrt.device.bundles import ORIN, call, device, finish, stand_in

ALWAYS = {"--timingCacheFile=timing.cache", "--profilingVerbosity=detailed"}
FILES = {"--saveEngine=engine.plan.new", "--exportLayerInfo=engine.layers.json.new"}


def arguments(folder: Path) -> set[str]:
    return set(json.loads((folder / "arguments.json").read_text())) - ALWAYS - FILES


@pytest.mark.parametrize(
    ("banner", "version", "graph", "flags"),
    [
        ("8502", "8.5.2", "model.fp32.onnx", {"--int8", "--fp16", "--buildOnly"}),
        ("8601", "8.6.1", "model.fp32.onnx", {"--int8", "--fp16", "--skipInference", "--builderOptimizationLevel=4"}),
        ("100300", "10.3.0", "model.fp16.onnx", {"--stronglyTyped", "--skipInference", "--builderOptimizationLevel=4"}),
        ("100600", "10.6.0", "model.fp16.onnx", {"--stronglyTyped", "--skipInference", "--builderOptimizationLevel=4"}),
        ("110100", "11.1.0", "model.fp16.onnx", {"--skipInference", "--builderOptimizationLevel=4"}),
    ],
)
def test_each_version_gets_its_graph_and_its_flags(
    tmp_path: Path, banner: str, version: str, graph: str, flags: set[str]
) -> None:
    folder = finish(tmp_path, optimization_level=4, sparsity=True, workspace_mib=512)
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION=banner), "build.sh")
    assert ended.returncode == 0, ended.stderr
    common = {f"--onnx={graph}", "--sparsity=enable", "--memPoolSize=workspace:512"}
    assert arguments(folder) == flags | common
    record = json.loads((folder / "engine.json").read_text())
    assert record["tensorrt"] == version and record["gpu"] == {"name": "A GPU", "compute_capability": "8.7"}
    assert record["engine"] == {"file": "engine.plan", "sha256": sha256(folder / "engine.plan")}
    assert record["graph"] == {"file": graph, "sha256": sha256(folder / graph)} and record["warnings"] == []
    assert set(record["flags"]) == arguments(folder) - {f"--onnx={graph}"}
    assert not list(folder.glob("*.new")) and (folder / "engine.layers.json").is_file()


def test_ten_reads_the_weak_graph_where_there_is_no_other(tmp_path: Path) -> None:
    folder = finish(tmp_path, graphs=[Graph(file="model.fp32.onnx", precision="int8", typing="weak")])
    assert call(folder, device(tmp_path, TRTEXEC_VERSION="100300"), "build.sh").returncode == 0
    assert {"--onnx=model.fp32.onnx", "--int8", "--fp16"} < arguments(folder)
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION="110100"), "build.sh")
    assert ended.returncode == 2 and "no graph for int8 that TensorRT 11.1.0 reads (strong typing)" in ended.stderr


def test_an_engine_to_compare_with_has_files_of_its_own(tmp_path: Path) -> None:
    folder = finish(tmp_path)
    assert call(folder, device(tmp_path, TRTEXEC_VERSION="8502"), "build.sh", "fp16").returncode == 0
    given = json.loads((folder / "arguments.json").read_text())
    assert "--saveEngine=engine.fp16.plan.new" in given and "--fp16" in given and "--int8" not in given
    assert (folder / "engine.fp16.plan").is_file() and not (folder / "engine.plan").exists()


def test_shapes_go_through_the_shell_unharmed(tmp_path: Path) -> None:
    three = {"min": [1, 3, 8, 8], "opt": [2, 3, 8, 8], "max": [4, 3, 8, 8]}
    name = 'input:0 $(touch x) "*'
    folder = finish(
        tmp_path, dynamic=[name, "z"], profiles={name: Profile(**three), "z": Profile(min=[], opt=[], max=[])}
    )
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION="100300"), "build.sh")
    assert ended.returncode == 0, ended.stderr
    assert {f"--{k}Shapes='{name}':{v}x3x8x8,z:scalar" for k, v in (("min", 1), ("opt", 2), ("max", 4))} < arguments(
        folder
    )
    assert not (folder / "x").exists()


@pytest.mark.parametrize(
    ("banner", "found"),
    [
        ("8502", {"--useDLACore=1", "--allowGPUFallback", "--int8", "--fp16"}),
        ("100300", {"--useDLACore=1", "--allowGPUFallback", "--int8", "--fp16"}),
        ("110400", {"--useDLACore=1", "--allowGPUFallback"}),
        ("110100", None),
    ],
)
def test_the_dla(tmp_path: Path, banner: str, found: set[str] | None) -> None:
    folder = finish(tmp_path, dla=Dla(core=1))
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION=banner), "build.sh")
    if found is None:
        assert ended.returncode == 2 and "the DLA needs TensorRT 8.5 to 10.7, or 11.4" in ended.stderr
    else:
        assert ended.returncode == 0 and found < arguments(folder)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TRTEXEC_VERSION": "8401"}, "TensorRT 8.5 to 11 is needed, and this is 8.4.1"),
        ({"TRTEXEC_VERSION": "120000"}, "TensorRT 8.5 to 11 is needed, and this is 12.0.0"),
        ({"TRTEXEC_VERSION": "8502", "TRTEXEC_FAILS": "crash"}, "trtexec failed"),
        ({"TRTEXEC_VERSION": "8502", "TRTEXEC_FAILS": "empty"}, "trtexec wrote no engine"),
        ({"TRTEXEC_VERSION": "8502", "TRTEXEC_FAILS": "open axes"}, "an input has open axes and no profile"),
        (
            {"TRTEXEC_VERSION": "8502", "TRTEXEC_GPU": "7.2"},
            "this GPU has compute capability 7.2, and the bundle is for",
        ),
        ({}, "neither Python's tensorrt nor trtexec is here"),
    ],
)
def test_what_fails_leaves_nothing_half_written(tmp_path: Path, variables: dict[str, str], message: str) -> None:
    folder = finish(tmp_path)
    ended = call(folder, device(tmp_path, **variables), "build.sh")
    assert ended.returncode == 2 and message in ended.stderr
    assert not list(folder.glob("engine.plan*")) + list(folder.glob("*.new")) + list(folder.glob("engine.json*"))


def test_another_gpu_is_built_for_when_asked(tmp_path: Path) -> None:
    folder = finish(tmp_path)
    environment = device(tmp_path, TRTEXEC_VERSION="8502", TRTEXEC_GPU="7.2")
    assert call(folder, environment, "build.sh", "--any-gpu").returncode == 0
    record = json.loads((folder / "engine.json").read_text())
    assert record["gpu"]["compute_capability"] == "7.2" and ORIN.name in record["warnings"][0]


def test_another_gpu_is_refused_before_minutes_are_spent(tmp_path: Path) -> None:
    folder, environment = finish(tmp_path), device(tmp_path, TRTEXEC_VERSION="8502")
    stand_in(tmp_path, "nvidia-smi", "echo 8.0")
    ended = call(folder, environment, "build.sh")
    assert ended.returncode == 2 and "this GPU has compute capability 8.0" in ended.stderr
    assert not (folder / "engine.log").exists()


def test_a_graph_of_another_hash_is_refused(tmp_path: Path) -> None:
    folder = finish(tmp_path)
    (folder / "model.fp32.onnx").write_bytes(b"another")
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION="8502"), "build.sh")
    assert ended.returncode == 2 and "model.fp32.onnx is not the file that was compiled" in ended.stderr


def test_a_missing_profile_is_refused(tmp_path: Path) -> None:
    folder = finish(tmp_path)
    (folder / "build.conf").write_text((folder / "build.conf").read_text() + "dynamic x\n")
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION="8502"), "build.sh")
    assert ended.returncode == 2 and "no profile for the open axes of x" in ended.stderr
