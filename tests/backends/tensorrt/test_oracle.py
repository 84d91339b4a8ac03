from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dsedge.backends.tensorrt import oracle
from dsedge.errors import BuildError
from tests.backends.tensorrt.cases import FLOAT, HALF, Graph, conv, matmul, single

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed"
)


def test_what_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "version", lambda: None)
    with pytest.raises(BuildError, match="DS402") as error:
        oracle.check(conv(), "8.0")
    assert error.value.hint == "pip install 'dsedge[tensorrt-rtx]'"


@needs_compiler
def test_nothing_is_said_of_a_gpu_that_nothing_near_is_built_for() -> None:
    with pytest.raises(BuildError, match=r"nothing near compute capability 7\.2"):
        oracle.check(conv(), "7.2")
    assert "by proxy" in oracle.check(conv(), "8.7").aim.note


@needs_compiler
@pytest.mark.parametrize("float_type", [FLOAT, HALF], ids=["float32", "float16"])
def test_both_kinds_of_graphs_are_built_as_they_are_written(float_type: int) -> None:
    verdict = oracle.check(matmul(float_type=float_type, opset=19), "8.0")
    (kernel,) = verdict.of("product")
    assert verdict.accepted
    assert (kernel.kind, kernel.reads, kernel.constants[0]) == ("gemm", ("Int8",), "Int8")
    (quantizer,) = (layer for layer in verdict.layers if "QuantizeLinear_0" in layer.nodes)
    assert quantizer.reads == ("Float" if float_type == FLOAT else "Half",)


@needs_compiler
def test_a_refusal_names_the_node_and_the_reason() -> None:
    (error,) = oracle.check(conv(data={"zero_point": 3}), "8.0").errors
    assert (error.node, error.op) == ("QuantizeLinear_0", "QuantizeLinear")
    assert "zero point" in error.reason
    (error,) = oracle.check(conv(bias="int32"), "8.0").errors
    assert "DequantizeLinear_3: input has type Int32" in error.reason
    assert "cuda" not in error.reason.lower()


@needs_compiler
def test_coverage_counts_products_on_codes_and_says_what_the_others_are() -> None:
    verdict = oracle.check(matmul(weight={"scale": np.full(256, 0.01), "axis": 0}), "8.0")
    codes, others = oracle.coverage(verdict, ["product"])
    assert not codes  # its kernel reads INT8, and widens it inside
    assert "runtime_fusion" in others["product"]


@needs_compiler
def test_an_open_axis_is_built_with_a_profile() -> None:
    shapes = tuple((n, 32, 8, 8) for n in (1, 2, 4))
    assert oracle.check(conv(batch="N"), "8.0", profiles={"x": shapes}).accepted  # type: ignore[dict-item]


@needs_compiler
@pytest.mark.parametrize(
    "name", ["a], Constants: [ { Name: b, Datatype: Int8", "a\n, LayerType: gemm", "[ONNX Layer: n0]", ""]
)
def test_names_do_not_change_what_is_read_back(name: str) -> None:
    model = conv(quantized=(False, False))
    for node in model.graph:
        node.name = name
        node.outputs[0].name = name + node.op_type
    for value in (*model.graph.inputs, *tuple(model.graph.initializers.values())):
        value.name = name + str(value.name)
    verdict = oracle.check(model, "8.0")
    assert verdict.accepted
    assert {kind for layer in verdict.layers for kind in (*layer.reads, *layer.constants)} == {"Float"}


def _deep(count: int) -> ir.Model:
    g = Graph()
    y = "x"
    for _ in range(count):
        y = g.op("Relu", y)
    return g.model(y, inputs=(("x", FLOAT, [4]),))


def _grown(op: str, shape: list[int]) -> ir.Model:
    g = Graph()
    return g.model(g.op(op, "x", g.const(shape, 7)), inputs=(("x", FLOAT, [1]),))


@needs_compiler
@pytest.mark.parametrize(
    "model",
    [
        _grown("Expand", [2**31, 2**31, 8]),
        _grown("Tile", [2**60]),
        _grown("Reshape", [0]),
        conv(weight={"axis": 99}),
        conv(weight={"scale": np.full(7, 0.01)}),
        conv(data={"scale": np.zeros(0)}),
        single("Relu", opset=0),
    ],
    ids=["expand", "tile", "reshape", "axis", "scales", "no-scale", "opset-0"],
)
def test_a_hostile_graph_gets_a_verdict(model: ir.Model) -> None:
    verdict = oracle.check(model, "8.0")
    assert verdict.accepted or verdict.failure or verdict.errors[0].reason


@needs_compiler
def test_a_compiler_that_takes_too_long_is_stopped() -> None:
    verdict = oracle.check(_deep(3000), "8.0", seconds=0.3)
    assert verdict.failure == "the compiler was stopped after 0.3 seconds"


@needs_compiler
def test_a_compiler_without_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "MEMORY", 20 * 2**20)
    assert oracle.check(conv(), "8.0").failure.startswith("the compiler")


@needs_compiler
def test_a_crash_of_the_compiler_is_a_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "oracle.py"
    script.with_name("compiler.py").write_text("import os\nos.abort()\n")
    monkeypatch.setattr(oracle, "__file__", str(script))
    assert oracle.check(conv(), "8.0").failure == "the compiler crashed (SIGABRT)"
