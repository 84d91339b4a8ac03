"""Bundles for TensorRT that need no GPU, made of one for ONNX Runtime, and what tests of their repositories share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsedge.backends.tensorrt.settings import Graph, Profile, TargetFacts, write_settings
from dsedge.bundle import Bundle, describe, sha256
from dsedge.errors import DsedgeError

BUILD = """\
import pathlib, sys
pathlib.Path("engine.plan").write_bytes(pathlib.Path("model.fp32.onnx").read_bytes()[:64])
"""
CAPABILITIES = {"t4": "7.5", "a100": "8.0", "my-t4": "7.5"}


def refused(action: Callable[[], object]) -> DsedgeError:
    with pytest.raises(DsedgeError) as caught:
        action()
    return caught.value


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Bundle:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return Bundle(folder)


def tensorrt(
    source: Path, folder: Path, board: str, *, built: bool = False, build: str = BUILD, most: int = 16
) -> Bundle:
    """A bundle for TensorRT: two portable graphs and what builds an engine of them; or the engine beside them too.

    The script that builds is a stand-in, which needs no GPU.
    """
    shutil.copytree(source, folder)
    model = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").unlink()
    graphs = [
        Graph(file="model.fp32.onnx", precision="int8", typing="weak"),
        Graph(file="model.fp16.onnx", precision="int8", typing="strong"),
    ]
    for graph in graphs:
        (folder / graph.file).write_bytes(model)
    shape = [8, 12, 12]
    scripts = write_settings(
        folder,
        target=TargetFacts(name=board, compute_capability=CAPABILITIES[board]),
        precision="int8",
        graphs=graphs,
        outputs=["y"],
        int8_nodes=[],
        profiles={"x": Profile(min=[1, *shape], opt=[4, *shape], max=[most, *shape])},
        dynamic=["x"],
    )
    (folder / "build.py").write_text(build)
    listed = describe(folder, {g.file: "model" for g in graphs} | dict.fromkeys(scripts, "runner"))
    if built:
        (folder / "engine.plan").write_text(f"engine for {board}")
        gpu, engine = {"compute_capability": CAPABILITIES[board]}, {"sha256": sha256(folder / "engine.plan")}
        (folder / "engine.json").write_text(json.dumps({"tensorrt": "10.3.0", "gpu": gpu, "engine": engine}))

    def change(manifest: dict[str, Any]) -> None:
        names = {"model.onnx", *(info.path for info in listed)}
        kept = [info for info in manifest["files"] if info["path"] not in names]
        manifest.update(files=[info.model_dump() for info in listed] + kept, status="deferred")
        manifest["target"].update(name=board, board=board)
        manifest["runtime"].update(name="tensorrt", version="")

    return edited(folder, change)
