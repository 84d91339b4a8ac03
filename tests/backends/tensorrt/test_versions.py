"""Which TensorRT a target has, and which graph that one builds."""

from __future__ import annotations

import pytest

from dsedge.backends.tensorrt.settings import Kind
from dsedge.backends.tensorrt.versions import ENDLESS, OLDEST, bounds, builds
from dsedge.target import Runtime, Target, load_target

FP32, FP16, BF16, FLOAT = (f"model.{name}.onnx" for name in ("fp32", "fp16", "bf16", "float"))


def with_range(version: str | None) -> Target:
    return load_target("a100").model_copy(update={"runtimes": (Runtime(name="tensorrt", version=version),)})


@pytest.mark.parametrize(
    ("version", "least", "limit"),
    [
        (None, OLDEST, ENDLESS),
        (">=10", (10, 0), ENDLESS),
        (">=10.3,<10.4", (10, 3), (10, 4)),
        ("~=10.3", (10, 3), (11, 0)),
        ("~=10.3.0", (10, 3), (10, 4)),
        ("==8.6.*", (8, 6), (8, 7)),
        (">=8.5,<=10.7", (8, 5), (10, 8)),
    ],
)
def test_bounds(version: str | None, least: tuple[int, int], limit: tuple[int, int]) -> None:
    assert bounds(with_range(version)) == (least, limit)


@pytest.mark.parametrize(
    ("version", "kind", "files", "built"),
    [
        (">=8.5,<8.6", "int8", {FP32, FP16}, FP32),
        (">=10", "int8", {FP32, FP16}, FP16),
        (">=10,<11", "int8", {FP32}, FP32),
        (">=11", "int8", {FP32, FP16}, FP16),
        (">=11", "int8", {FP32}, None),
        (">=10", "fp16", {FP32, FP16}, FP16),
        (">=8.5,<8.6", "fp16", {FP32}, FP32),
        (">=10", "fp32", {FP32, FP16}, FP32),
        (">=10", "int4", {FP16, FLOAT}, FP16),
        (">=10.3,<10.4", "bf16", {BF16, FLOAT}, BF16),
    ],
)
def test_the_graph_that_is_built(version: str, kind: Kind, files: set[str], built: str | None) -> None:
    assert builds(files, kind, with_range(version)) == built
