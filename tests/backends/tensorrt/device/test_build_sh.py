"""build.sh against a stand-in for trtexec that knows the options of each version and refuses all others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsedge.backends.tensorrt.settings import Graph, Profile
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
        ("8601", "8.6.1", "model.fp32.onnx", {"--int8", "--fp16", "--skipInference"}),
        ("100300", "10.3.0", "model.fp16.onnx", {"--stronglyTyped", "--skipInference"}),
        ("100600", "10.6.0", "model.fp16.onnx", {"--stronglyTyped", "--skipInference"}),
        ("110100", "11.1.0", "model.fp16.onnx", {"--skipInference"}),
    ],
)
def test_each_version_gets_its_graph_and_its_flags(
    tmp_path: Path, banner: str, version: str, graph: str, flags: set[str]
) -> None:
    folder = finish(tmp_path, sparsity=True, workspace_mib=512)
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


@pytest.mark.parametrize("changes", [{"fp16": False}, {"float32_nodes": ["exp"]}])
def test_where_nodes_must_stay_in_float32_the_weak_graph_gets_no_float16(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = finish(tmp_path, **changes)
    assert call(folder, device(tmp_path, TRTEXEC_VERSION="8502"), "build.sh").returncode == 0
    assert "--int8" in arguments(folder) and "--fp16" not in arguments(folder)
    assert "nothing computes in float16" in json.loads((folder / "engine.json").read_text())["warnings"][0]
    assert call(folder, device(tmp_path, TRTEXEC_VERSION="100300"), "build.sh").returncode == 0
    assert json.loads((folder / "engine.json").read_text())["warnings"] == []


def test_bfloat16_by_a_flag_began_with_ten(tmp_path: Path) -> None:
    folder = finish(tmp_path, precision="bf16", graphs=[Graph(file="f.onnx", precision="bf16", typing="weak")])
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION="8502"), "build.sh")
    assert ended.returncode == 2 and "TensorRT 8.5.2 has no bfloat16: 10 has" in ended.stderr


def test_help(tmp_path: Path) -> None:
    ended = call(finish(tmp_path), device(tmp_path), "build.sh", "--help")
    assert ended.returncode == 0 and ended.stderr == ""
    first, *_, last = ended.stdout.strip().splitlines()
    assert first.startswith("Builds the engine of this bundle by trtexec") and last.endswith("and engine.json.")


def test_where_only_pythons_module_is_there_it_says_so(tmp_path: Path) -> None:
    stand_in(tmp_path, "python3", '[ "$*" = "-c import tensorrt" ]')
    ended = call(finish(tmp_path), device(tmp_path), "build.sh")
    assert ended.returncode == 2 and ended.stderr.strip().endswith("is: run python3 build.py")


def test_ten_reads_the_weak_graph_where_there_is_no_other(tmp_path: Path) -> None:
    folder = finish(tmp_path, graphs=[Graph(file="model.fp32.onnx", precision="int8", typing="weak")])
    assert call(folder, device(tmp_path, TRTEXEC_VERSION="100300"), "build.sh").returncode == 0
    assert {"--onnx=model.fp32.onnx", "--int8", "--fp16"} < arguments(folder)
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION="110100"), "build.sh")
    assert ended.returncode == 2 and "no graph for int8 that TensorRT 11.1.0 reads (strong typing)" in ended.stderr


def test_a_graph_that_ten_cannot_parse_is_replaced_and_the_record_says_so(tmp_path: Path) -> None:
    bfloat = [Graph(file="model.bf16.onnx", precision="bf16", typing="strong")]
    folder = finish(tmp_path, precision="bf16", graphs=bfloat)
    environment = device(tmp_path, TRTEXEC_VERSION="100300", TRTEXEC_CANNOT_PARSE="model.bf16.onnx")
    ended = call(folder, environment, "build.sh")
    assert ended.returncode == 2 and "cannot read model.bf16.onnx: [TRT] ModelImporter.cpp:949: While" in ended.stderr
    assert not list(folder.glob("engine.plan*"))
    folder = finish(folder, precision="bf16", graphs=[*bfloat, Graph(file="f.onnx", precision="bf16", typing="weak")])
    assert call(folder, environment, "build.sh").returncode == 0
    assert {"--onnx=f.onnx", "--bf16"} < arguments(folder) and "--stronglyTyped" not in arguments(folder)
    warnings = json.loads((folder / "engine.json").read_text())["warnings"]
    assert warnings[0].startswith("TensorRT 10.3.0 cannot read model.bf16.onnx") and "opset 22" in warnings[0]
    assert warnings[1] == "engine.plan is built from f.onnx, weakly typed"


@pytest.mark.parametrize(("options", "tf32"), [({}, True), ({"tf32": False}, False)])
def test_tf32_is_what_was_asked_for(tmp_path: Path, options: dict[str, Any], tf32: bool) -> None:
    folder = finish(tmp_path, **options)
    assert call(folder, device(tmp_path, TRTEXEC_VERSION="110100"), "build.sh").returncode == 0
    assert json.loads((folder / "engine.json").read_text())["tf32"] is tf32
    assert ("--noTF32" in arguments(folder)) is not tf32


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
    folder = finish(tmp_path)
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION=banner, DLA_CORES="2"), "build.sh", "--dla", "1")
    if found is None:
        assert ended.returncode == 2 and "the DLA needs TensorRT 8.5 to 10.7, or 11.4" in ended.stderr
    else:
        assert ended.returncode == 0 and found < arguments(folder)
        assert "never ran on a DLA" in json.loads((folder / "engine.json").read_text())["warnings"][0]


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ({}, "0", "Cannot create DLA engine"),
        ({}, "x", "--dla: the number of a core"),
        (
            {"dynamic": ["x"], "profiles": {"x": Profile(min=[1], opt=[2], max=[3])}},
            "0",
            "fixed shapes only, and x has",
        ),
    ],
)
def test_no_dla_no_engine(tmp_path: Path, changes: dict[str, Any], asked: str, message: str) -> None:
    folder = finish(tmp_path, **changes)
    ended = call(folder, device(tmp_path, TRTEXEC_VERSION="100300"), "build.sh", "--dla", asked)
    assert ended.returncode == 2 and message in ended.stderr and not list(folder.glob("engine.plan*"))


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
