"""What is said of each graph that the device may build."""

from __future__ import annotations

import pytest

from dsedge.backends.tensorrt.finish import _in_float16
from dsedge.backends.tensorrt.settings import Kind
from dsedge.backends.tensorrt.versions import buildable

FP32, FP16, FLOAT = (f"model.{name}.onnx" for name in ("fp32", "fp16", "float"))


@pytest.mark.parametrize(
    ("kind", "files", "found"),
    [
        ("int4", {FP16, FLOAT}, {(FP16, "int4")}),
        ("int8", {FP16, FLOAT}, {(FP16, "int8")}),
        ("int8", {FP16, FP32}, {(FP16, "int8")}),
        ("fp16", {FP16, FLOAT}, {(FP16, "fp16"), (FLOAT, "fp16")}),
        ("fp32", {FP16, FP32}, {(FP16, "fp16"), (FP32, "fp16")}),
    ],
)
def test_what_the_typed_graph_reached_is_said_of_no_other_graph(
    kind: Kind, files: set[str], found: set[tuple[str, Kind]]
) -> None:
    assert {(graph.file, graph.precision) for graph in buildable(kind, files) if _in_float16(graph, kind)} == found
