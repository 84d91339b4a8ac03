"""Settings that contradict each other never reach a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dsedge.backends.tensorrt.settings import SCRIPTS, Dla, Graph, Profile
from dsedge.bundle import sha256
from dsedge.errors import LoadError
from tests.backends.tensorrt.device.bundles import finish

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


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"dynamic": ["x"]}, "an input with open axes needs a profile"),
        ({"profiles": {"x": ONE}}, "an input with open axes needs a profile, and no other has one: x"),
        ({"dynamic": ["x"], "profiles": {"x": ONE}, "dla": Dla()}, "the DLA takes fixed shapes only"),
        ({"precision": "bf16"}, "none of the graphs is for bf16"),
        ({"workspace_mib": 0}, "greater than or equal to 1"),
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
        lambda: Graph(file="../model.onnx", precision="int8", typing="weak"),
        lambda: Graph(file="a b.onnx", precision="int8", typing="weak"),
        lambda: Graph(file="m.onnx", precision="int4", typing="weak"),
    ],
)
def test_parts_that_mean_nothing_are_refused(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()
