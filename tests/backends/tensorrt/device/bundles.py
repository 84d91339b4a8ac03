"""Bundles for the scripts of the device, made of a bundle for ONNX Runtime."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dsedge.backends.tensorrt.settings import SCRIPTS, Graph, Profile, TargetFacts, write_settings

ORIN = TargetFacts(
    name="jetson-orin-nano", compute_capability="8.7", device_name="a gpu", memory_mib=8192, tensorrt=">=8.5,<12"
)
GRAPHS = (
    Graph(file="model.fp32.onnx", precision="int8", typing="weak"),
    Graph(file="model.fp16.onnx", precision="int8", typing="strong"),
)


def finish(folder: Path, **changes: Any) -> Path:
    """A folder with the graphs' files, as a bundle that waits for its device."""
    options: dict[str, Any] = {
        "target": ORIN,
        "precision": "int8",
        "graphs": GRAPHS,
        "outputs": ["y"],
        "int8_nodes": ["conv"],
    }
    for file in {graph.file for graph in {**options, **changes}["graphs"]}:
        if not (folder / file).exists():
            (folder / file).write_bytes(file.encode())
    write_settings(folder, **{**options, **changes})
    return folder


def of_a_compiled_one(folder: Path) -> Path:
    """A bundle of ONNX Runtime turned into one of TensorRT, with the same graph under every name."""
    manifest = json.loads((folder / "manifest.json").read_text())
    model = onnx.load(folder / "model.onnx")
    shutil.copyfile(folder / "model.onnx", folder / "model.fp16.onnx")
    model.opset_import[0].version, model.ir_version = 17, 8  # its operators are the same there
    onnx.save(model, folder / "model.fp32.onnx")
    codes = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    products = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    nodes = [node.name for node in products if set(node.input[:2]) <= codes]
    shape = list(golden_of(folder)["input_0"][0].shape)
    profiles = {model.graph.input[0].name: Profile(min=shape, opt=shape, max=[8 * shape[0], *shape[1:]])}
    outputs = [value.name for value in model.graph.output]
    finish(folder, outputs=outputs, int8_nodes=nodes, profiles=profiles, dynamic=list(profiles))
    manifest["runtime"]["name"] = "tensorrt"
    files = [info for info in manifest["files"] if info["role"] != "model"]
    manifest["files"] = [{**files[0], "path": "model.fp32.onnx", "role": "model"}, *files]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def device(tmp_path: Path, **variables: str) -> dict[str, str]:
    """The environment of a device: stand-ins first on its paths."""
    bin_ = tmp_path / "bin"
    if "TRTEXEC_VERSION" in variables:
        trtexec = Path(__file__).with_name("trtexec_stand_in.py")
        stand_in(tmp_path, "trtexec", f'exec "{sys.executable}" "{trtexec}" "$@"')
    base = {"PATH": f"{bin_}:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "TRTEXEC_GPU": "8.7", "GPU_CAPABILITY": "8.7"}
    return {**{k: v for k, v in os.environ.items() if k.startswith("LC_")}, **base, **variables}


def stand_in(tmp_path: Path, name: str, line: str) -> None:
    """A program on the device's PATH."""
    script = tmp_path / "bin" / name
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!/bin/sh\n{line}\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)


def call(folder: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a bundle."""
    start = [sys.executable] if command[0].endswith(".py") else ["dash"] if shutil.which("dash") else ["sh"]
    return subprocess.run(
        [*start, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def golden_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "golden.npz") as data:
        return dict(data)


def cuda_library(tmp_path: Path) -> str:
    """A folder with the stand-in for libcudart, compiled; the test is skipped where there is no C compiler."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    folder = tmp_path / "cuda"
    folder.mkdir(exist_ok=True)
    source = Path(__file__).with_name("libcudart_stand_in.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(folder / "libcudart.so.13"), str(source)], check=True)
    return str(folder)


def python(
    code: str, environment: dict[str, str], folder: Path | None = None, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run lines that import the scripts of a device, or those in a bundle."""
    paths = [str(folder or SCRIPTS["build.py"].parent), environment.get("PYTHONPATH", "")]
    environment = {**environment, "PYTHONPATH": ":".join(filter(None, paths))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
