"""Settings that contradict each other never reach a device."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dsedge.backends.tensorrt.settings import MOST_BYTES, SCRIPTS, Graph, Profile, TargetFacts, read_settings
from dsedge.bundle import sha256
from dsedge.errors import BundleError, LoadError
from tests.backends.tensorrt.device.bundles import finish

FLOAT = Graph(file="f.onnx", precision="fp16", typing="weak")
REACHED = Graph(file="f.onnx", precision="int8", typing="weak", golden_sqnr_db=[None, 20.0])
ONE = Profile(min=[1, 4], opt=[2, 4], max=[8, 4])


def test_the_bundle_gets_its_scripts_and_the_hashes_of_its_graphs(tmp_path: Path) -> None:
    folder = finish(tmp_path, profiles={"x": ONE}, dynamic=["x"])
    settings = json.loads((folder / "build.json").read_text())
    assert all(graph["sha256"] == sha256(folder / graph["file"]) for graph in settings["graphs"])
    assert settings["profiles"]["x"] == {"min": [1, 4], "opt": [2, 4], "max": [8, 4]}
    assert all((folder / name).read_bytes() == source.read_bytes() for name, source in SCRIPTS.items())
    lines = (folder / "build.conf").read_text().splitlines()
    assert f"graph int8 weak {sha256(folder / 'model.fp32.onnx')} model.fp32.onnx" in lines
    assert "min_shapes x:1x4" in lines and "max_shapes x:8x4" in lines and "sparsity 0" in lines


def test_a_shell_that_cannot_bind_nodes_to_float32_gets_no_float16(tmp_path: Path) -> None:
    for changes, half in (({}, 1), ({"float32_nodes": ["exp\nhalf 1"]}, 0), ({"fp16": False}, 0)):
        lines = (finish(tmp_path, **changes) / "build.conf").read_text().splitlines()
        assert [line for line in lines if "half" in line] == [f"half {half}"]


@pytest.mark.parametrize("target", ["/dev/zero", "fifo", "large", "folder"])
def test_what_could_be_read_forever_is_refused(tmp_path: Path, target: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    (tmp_path / "build.json").symlink_to(tmp_path / target)
    with pytest.raises(BundleError) as caught:
        read_settings(tmp_path)
    assert caught.value.code == "DS803" and caught.value.because in ("it is no file", "it is larger than 16 MiB")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"workspace_mib": True}, "valid integer"),
        ({"workspace_mib": "12"}, "valid integer"),
        ({"sparsity": 1}, "valid boolean"),
        ({"fp8": True}, "not permitted"),
    ],
)
def test_a_file_is_read_strictly(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    path = finish(tmp_path) / "build.json"
    read_settings(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(BundleError) as caught:
        read_settings(tmp_path)
    assert what in (caught.value.because or "")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"dynamic": ["x"]}, "an input with open axes needs a profile"),
        ({"profiles": {"x": ONE}}, "an input with open axes needs a profile, and no other has one: x"),
        ({"precision": "bf16"}, "none of the graphs is for bf16"),
        ({"workspace_mib": 0}, "greater than or equal to 1"),
        ({"dynamic": ["x", "x"], "profiles": {"x": ONE}}, "named twice"),
        ({"precision": "fp16", "fp16": False, "graphs": [FLOAT]}, "computes in float16"),
        ({"graphs": [REACHED]}, "one number for each output"),
        ({"dynamic": ["a\nb"], "profiles": {"a\nb": ONE}}, "pattern"),
        ({"dynamic": ["it's"], "profiles": {"it's": ONE}}, "pattern"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(LoadError) as caught:
        finish(tmp_path, **changes)
    assert caught.value.code == "DS145" and what in caught.value.what
    assert not (tmp_path / "build.json").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Profile(min=[2], opt=[1], max=[4]),
        lambda: Profile(min=[1], opt=[1], max=[1, 1]),
        lambda: Profile(min=[-1], opt=[1], max=[1]),
        lambda: TargetFacts(name="a", compute_capability="8.7", tensorrt="new"),
        lambda: Graph(file="../model.onnx", precision="int8", typing="weak"),
        lambda: Graph(file="a b.onnx", precision="int8", typing="weak"),
        lambda: Graph(file="m.onnx", precision="int4", typing="weak"),
    ],
)
def test_parts_that_mean_nothing_are_refused(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()
