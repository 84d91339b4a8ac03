"""ONNX Runtime: the artifact is the Q/DQ graph itself, as `model.onnx`; the runtime fuses it when it is loaded."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from dsedge.backends.base import Artifact
from dsedge.backends.onnxruntime.audit import audit
from dsedge.backends.onnxruntime.contract import contract
from dsedge.backends.onnxruntime.dynamic import also_dynamic
from dsedge.backends.onnxruntime.guard import guard
from dsedge.backends.onnxruntime.lower import lower
from dsedge.backends.onnxruntime.prepare import prepare
from dsedge.backends.onnxruntime.profile import profile
from dsedge.backends.onnxruntime.support import unsupported
from dsedge.bench.runner import load_onnxruntime as load
from dsedge.target import Target

__all__ = [
    "EXTRA",
    "NAME",
    "RUNNER",
    "alternatives",
    "audit",
    "build",
    "contract",
    "load",
    "prepare",
    "profile",
    "unsupported",
    "version",
]

NAME = "onnxruntime"
EXTRA = ""
RUNNER = Path(__file__).parents[2] / "bench" / "runner.py"


def version() -> str | None:
    """The installed version of onnxruntime."""
    import onnxruntime

    return str(onnxruntime.__version__)


def alternatives(target: Target, graph: ir.Graph) -> tuple[str, ...]:
    """INT8 without calibration, for recurrent nets of which it makes something else than INT8 with it."""
    return also_dynamic(graph, contract(target))


def build(model: ir.Model, folder: Path) -> Artifact:
    """Write a float or Q/DQ graph as `model.onnx`."""
    path = folder / "model.onnx"
    path.write_bytes(ir.to_proto(guard(lower(model))).SerializeToString())
    return Artifact(path)
