from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsedge.bundle import Bundle, Manifest, write_manifest

MakeManifest = Callable[..., Manifest]


def latency(precision: str, median: float, p90: float) -> dict[str, Any]:
    return {
        "runtime": "onnxruntime 1.31.1",
        "precision": precision,
        "median_ms": median,
        "p90_ms": p90,
        "runs": 300,
        "threads": 1,
        "where": "this machine (x86_64)",
        "conditions": {"cpu": "a CPU", "governor": None, "load_1min": 0.25},
    }


DATA: dict[str, Any] = {
    "schema": 1,
    "dsedge": "0.1.0",
    "created": "2026-11-21T10:00:00+00:00",
    "status": "verified",
    "model": {
        "name": "net",
        "fingerprint": "ab" * 32,
        "opset": 20,
        "source": "net.onnx",
        "source_opset": 13,
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 3, None], "layout": "NCW"}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": None, "layout": None}],
    },
    "target": {"name": "raspberry-pi", "board": "raspberry-pi-5"},
    "runtime": {"name": "onnxruntime", "version": "1.31.1", "variant": "arm-dotprod"},
    "files": [
        {"path": "model.onnx", "sha256": "cd" * 32, "bytes": 100_000, "role": "model"},
        {"path": "golden.npz", "sha256": "ef" * 32, "bytes": 900, "role": "golden"},
    ],
    "float_bytes": 400_000,
    "calibration": {"source": "calib.npz", "samples": 256, "method": "mse", "sha256": "01" * 32},
    "precision": {
        "precision": "int8",
        "int8_ops": 6,
        "float_ops": 2,
        "total_ops": 8,
        "islands": [
            {"node": "softmax_1", "op": "Softmax", "reason": "its INT8 kernel is slower"},
            {"node": "softmax_2", "op": "Softmax", "reason": "its INT8 kernel is slower"},
        ],
        "audited": True,
        "audit": "6 operators run in INT8",
    },
    "metrics": [{"name": "top1", "float": 98.61, "quantized": 98.33, "drop": 0.28, "samples": 360}],
    "fidelity": {
        "sqnr_db": 35.12,
        "max_abs": 0.21,
        "top1_agreement": 0.9972,
        "samples": 32,
        "reference_sqnr_db": 35.2,
        "golden_sqnr_db": [36.0],
        "golden_agreement": [1.0],
    },
    "latency": [latency("float32", 4.0, 4.4), latency("int8", 1.6, 1.7)],
    "gates": [
        {"name": "top1_drop", "limit": 0.5, "value": 0.28, "passed": True},
        {"name": "latency_vs_float", "limit": 1.03, "value": 0.4, "passed": True},
        {"name": "size", "limit": 400_000, "value": 100_000, "passed": True},
    ],
    "passes": [{"name": "fold-batchnorm", "seconds": 0.25, "changed": True, "notes": ["bn_3 not folded: a reason"]}],
    "notes": [],
}

CANDIDATES: list[dict[str, Any]] = [
    {
        "runtime": "onnxruntime",
        "version": "1.31.1",
        "precision": "int8",
        "sqnr_db": 35.12,
        "metric": {"name": "top1", "float": 98.61, "quantized": 98.33, "drop": 0.28, "samples": 360},
        "median_ms": 1.6,
        "iqr_ms": 0.05,
        "bytes": 100_000,
        "chosen": True,
        "reason": "the fastest that passes its gates",
    },
    {
        "runtime": "litert",
        "version": "2.3.0",
        "precision": "int8",
        "median_ms": 3.2,
        "iqr_ms": 0.25,
        "bytes": 90_000,
        "failed": ["latency_vs_float"],
        "reason": "slower than the fastest float artifact",
    },
    {
        "runtime": "openvino",
        "version": "2026.2",
        "precision": "int8",
        "reason": "not made",
        "error": {"code": "DS401", "where": None, "what": "the graph cannot be written", "because": None, "hint": None},
    },
]
DEFERRED: dict[str, Any] = {
    "status": "deferred",
    "runtime": {"name": "tensorrt", "version": "", "variant": "sm87"},
    "files": [*DATA["files"], {"path": "build.json", "sha256": "ab" * 32, "bytes": 900, "role": "build"}],
}
NOT_MEASURED: dict[str, Any] = {
    "latency": [],
    "gates": [
        {"name": "latency_vs_float", "limit": 1.03, "value": None, "passed": None, "note": "another architecture"},
        {"name": "size", "limit": 400_000, "value": 100_000, "passed": True},
    ],
}


@pytest.fixture
def manifest() -> MakeManifest:
    def make(**changes: Any) -> Manifest:
        return Manifest.model_validate(DATA | changes)

    return make


@pytest.fixture
def deferred() -> dict[str, Any]:
    """What sets a bundle apart that its device finishes."""
    return DEFERRED


@pytest.fixture
def unmeasured(manifest: MakeManifest) -> Manifest:
    return manifest(**NOT_MEASURED)


@pytest.fixture
def several(manifest: MakeManifest) -> Manifest:
    """Of a bundle that was chosen among several runtimes."""
    return manifest(candidates=CANDIDATES, costs=[{"node": "conv_1", "op": "QLinearConv", "ms": 0.4, "share": 0.256}])


@pytest.fixture
def bundle(tmp_path: Path, manifest: MakeManifest) -> Callable[..., Bundle]:
    def make(name: str = "net-raspberry-pi-5", **changes: Any) -> Bundle:
        folder = tmp_path / name
        folder.mkdir()
        write_manifest(folder, manifest(**changes))
        return Bundle(folder)

    return make


@pytest.fixture
def plan() -> dict[str, Any]:
    def node(name: str, op: str, **changes: Any) -> dict[str, Any]:
        defaults = {"precision": "int8", "reason": "a reason", "fused_into": None, "inputs": [0], "weights": []}
        defaults["weight_scales"] = []
        return {"name": name, "op": op, **defaults, "output": True, "reads": [], "result": f"{name}_out"} | changes

    weight = {"dtype": "int8", "axis": 0, "channels": 8, "least": 0.01, "greatest": 0.02}

    def value(name: str, group: str, **changes: Any) -> dict[str, Any]:
        numbers = {"range": [-1.0, 1.0], "scale": 0.0078125, "zero_point": 128, "dtype": "uint8"}
        return {"name": name, "group": group, **numbers} | changes

    return {
        "contract": "onnxruntime/x86-vnni",
        "nodes": [
            node("conv", "Conv", reads=["x"], weights=[1], weight_scales=[weight]),
            node("relu", "Relu", fused_into="conv", inputs=[], output=False),
            node("pool", "MaxPool", reads=["relu_out"]),
            node("softmax", "Softmax", precision="float", reason="its INT8 kernel is slower", output=False),
        ],
        "values": [value("x", "x"), value("relu_out", "pool_out"), value("pool_out", "pool_out")],
    }
