"""OpenVINO: the artifact is its intermediate representation, `model.xml` with the weights in `model.bin`."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from dsedge.backends.base import Artifact, installed_version
from dsedge.backends.openvino.audit import audit, executed
from dsedge.backends.openvino.bfloat import record, without_roundings
from dsedge.backends.openvino.biases import add_biases
from dsedge.backends.openvino.contract import contract
from dsedge.backends.openvino.convert import convert
from dsedge.backends.openvino.profile import profile
from dsedge.backends.openvino.sums import merge_sums
from dsedge.backends.openvino.support import unsupported
from dsedge.bench.runner import load_openvino as load
from dsedge.errors import BuildError
from dsedge.session import first_line
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
    "operators",
    "prepare",
    "profile",
    "unsupported",
    "version",
]

NAME = "openvino"
EXTRA = "openvino"
RUNNER = Path(__file__).parents[2] / "bench" / "runner.py"


def version() -> str | None:
    """The installed version of openvino."""
    return installed_version("openvino")


def prepare(model: ir.Model) -> ir.Model:
    """The model itself: the plugin's kernels take the operators as they are."""
    return model


def alternatives(target: Target, graph: ir.Graph) -> tuple[str, ...]:
    """bfloat16, which needs no calibration, on a CPU that computes in it."""
    return ("bf16",) if contract(target).bfloat else ()


def build(model: ir.Model, folder: Path) -> Artifact:
    """Write a float or Q/DQ graph as `model.xml` and `model.bin`.

    With weights in float16, all that is float is stored so. With nodes in bfloat16 too: the file is half as large, and
    what is rounded to bfloat16 when it is loaded has lost next to nothing.

    Raises:
        BuildError: DS401 when the frontend cannot read the graph.
    """
    import openvino

    plain = without_roundings(model)
    rounds = plain is not model
    try:
        converted = convert(plain)
    except Exception as error:  # of many types
        raise BuildError("DS401", "OpenVINO cannot convert the graph", because=first_line(error)) from error
    merge_sums(converted)
    add_biases(converted)
    if rounds:
        record(converted)
    path = folder / "model.xml"
    openvino.save_model(converted, path, compress_to_fp16=rounds or _holds_halves(model))
    return Artifact(path, (path.with_suffix(".bin"),))


def operators(path: Path) -> list[tuple[str, str]]:
    """What the plugin executes on this machine, and in which precision."""
    ends = ("Const", "Input", "Output")
    return [(operator.kind, operator.precision) for operator in executed(path) if operator.kind not in ends]


def _holds_halves(model: ir.Model) -> bool:
    """Whether weights are stored as float16; the frontend widens each, and the writer narrows all."""
    return any(value.dtype == ir.DataType.FLOAT16 for value in model.graph.initializers.values())
