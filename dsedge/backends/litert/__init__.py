"""LiteRT (TensorFlow Lite): the artifact is `model.tflite`, written operator by operator from the Q/DQ graph."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from dsedge.backends.base import Artifact, Predict, installed_version
from dsedge.backends.litert.audit import audit
from dsedge.backends.litert.contract import contract
from dsedge.backends.litert.emit import emit
from dsedge.backends.litert.prepare import prepare
from dsedge.backends.litert.quiet import quiet
from dsedge.backends.litert.read import read
from dsedge.backends.litert.support import unsupported
from dsedge.bench.runner import load_litert

__all__ = [
    "EXTRA",
    "NAME",
    "RUNNER",
    "audit",
    "build",
    "contract",
    "load",
    "operators",
    "prepare",
    "unsupported",
    "version",
]

NAME = "litert"
EXTRA = "litert"
RUNNER = Path(__file__).parents[2] / "bench" / "runner.py"


def version() -> str | None:
    """The installed version of ai-edge-litert."""
    return installed_version("ai-edge-litert")


def build(model: ir.Model, folder: Path) -> Artifact:
    """Write a float or Q/DQ graph as `model.tflite`."""
    path = folder / "model.tflite"
    path.write_bytes(emit(model)[0])
    return Artifact(path)


def operators(path: Path) -> list[tuple[str, str]]:
    """Type and precision of each operator of a file, in its order."""
    return [(operator.op, operator.precision) for operator in read(path)]


def load(path: Path, threads: int | None = None) -> Predict:
    """Open a file as `run.py` does."""
    with quiet():
        opened: Predict = load_litert(path, threads)
    return opened
