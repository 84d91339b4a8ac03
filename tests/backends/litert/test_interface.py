"""The interface of a file: the names of its inputs and outputs, and bytes that go in as they come from a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from flow import samples
from graphs import Net
from onnx import helper

import dsedge
from dsedge.backends.litert.emit import emit
from dsedge.backends.litert.read import read
from dsedge.bundle import Bundle
from dsedge.model import Model
from tests.backends.litert.harness import inferred, node

interpreter = pytest.importorskip("ai_edge_litert.interpreter")
BOARD = "raspberry-pi-5"


def names(opened: Any) -> tuple[list[str], list[str]]:
    """Of the tensors that are inputs and outputs, without the signature."""
    inputs, outputs = ([d["name"] for d in side] for side in (opened.get_input_details(), opened.get_output_details()))
    return inputs, outputs


def opened(content: bytes) -> Any:
    found = interpreter.Interpreter(model_content=content)
    found.allocate_tensors()
    return found


@pytest.mark.parametrize(
    ("precision", "layout", "dtype"),
    [("fp32", "nhwc", "float"), ("int8", None, "float"), ("int8", "nhwc", "float"), ("int8", "nhwc", "uint8")],
)
def test_tensors_bear_the_names_of_the_graph(precision: str, layout: str | None, dtype: str, tmp_path: Path) -> None:
    net = Net(x=("N", 8, 12, 12), y=("N", 8, 12, 12))
    mask = net.op("Sigmoid", net.conv(net.op("Add", net.conv("x", 8), net.conv("y", 8)), 4))
    scores = net.op("Flatten", net.op("GlobalAveragePool", mask))
    model = net.model(scores, mask)
    data = [{name: a[0] for name, a in b.feeds.items()} for b in samples(model)]
    options: dict[str, Any] = {"io_layout": layout, "io_dtype": dtype, "precision": precision, "runtime": "litert"}
    bundle = dsedge.compile(model, target=BOARD, calibration=data, output=tmp_path / "o", **options)
    found = names(opened(bundle.file("model").read_bytes()))
    assert found == (["x", "y"], [scores, mask])
    assert found == (
        [s["name"] for s in bundle.manifest.model.inputs],
        [s["name"] for s in bundle.manifest.model.outputs],
    )


@pytest.mark.parametrize(("fed", "given"), [("number", "y"), ("x", "n_transposed"), ("n_transposed", "y"), ("y", "y_")])
def test_what_else_has_such_a_name_gets_another(fed: str, given: str) -> None:
    """Constants and what lies between, each of which would be called as an input or output is."""
    model = node("Mul", [(2, 3), np.full(3, 2, np.float32)])
    graph = model.graph
    graph.node.append(helper.make_node("Transpose", ["y0"], ["z"], name="t", perm=[1, 0]))
    graph.output[0].name = "z"
    names_of = {"x0": fed, "x1": "number" if fed != "number" else "other", "z": given}
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names_of.get(value.name, value.name)
    for each in graph.node:
        each.input[:], each.output[:] = ([names_of.get(n, n) for n in side] for side in (each.input, each.output))
    del graph.value_info[:], graph.output[0].type.tensor_type.shape.dim[:]
    graph.output[0].ClearField("type")
    content, _ = emit(ir.from_proto(inferred(model)))
    run = opened(content)
    assert names(run) == ([fed], [given])
    tensors = [d["name"] for d in run.get_tensor_details() if d["name"]]
    assert len(tensors) == len({*tensors})


def test_an_output_that_is_an_input_or_another_output_is_a_tensor_of_its_own() -> None:
    model = node("Relu", [(2, 3)])
    model.graph.node.extend(helper.make_node("Identity", [x], [y], name=y) for x, y in (("x0", "z0"), ("y0", "z1")))
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in ("z0", "z1"))
    run = opened(emit(ir.from_proto(inferred(model)))[0])
    assert names(run) == (["x0"], ["y0", "z0", "z1"])
    x = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
    got = run.get_signature_runner("serving_default")(x0=x)
    for name, expected in (("y0", np.maximum(x, 0)), ("z0", x), ("z1", np.maximum(x, 0))):
        np.testing.assert_array_equal(got[name], expected)


MEAN, STD = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def preprocessing(kind: str) -> Model:
    """A small classifier that takes bytes; its first convolution pads, so that no offset folds into it."""
    net = Net(image=("N", 3, 16, 16))
    if kind == "to -1 and 1":
        y = net.op("Sub", net.op("Div", "image", net.const(127.5)), net.const(1.0))
    else:
        y = net.op("Div", "image", net.const(255.0))
        y = net.op("Div", net.op("Sub", y, net.const(MEAN)), net.const(STD))
    net.channels[y] = 3
    y = net.conv(net.conv(y, 16, act="Relu", strides=[2, 2]), 16, act="Relu")
    return net.model(net.head(y))


def compiled(model: Model, folder: Path, dtype: str) -> Bundle:
    rng = np.random.default_rng(0)
    data = [rng.integers(0, 256, (3, 16, 16)).astype(np.float32) for _ in range(16)]
    options: dict[str, Any] = {"runtime": "litert", "io_layout": "nhwc", "io_dtype": dtype}
    return dsedge.compile(model, target=BOARD, calibration=data, output=folder, **options)


@pytest.mark.parametrize("kind", ["to -1 and 1", "by mean and deviation"])
def test_preprocessing_reads_bytes(kind: str, tmp_path: Path) -> None:
    bundle = compiled(preprocessing(kind), tmp_path / "bytes", "uint8")
    m = bundle.manifest
    run = opened(bundle.file("model").read_bytes())
    (image,), (scores,) = run.get_input_details(), run.get_output_details()
    assert (image["name"], image["dtype"], image["shape"].tolist()) == ("image", np.uint8, [1, 16, 16, 3])
    assert image["quantization"] == (1.0, 0), "a byte is its own code"
    assert m.precision.islands == []
    assert {o.precision for o in read(bundle.file("model"))} == {"int8"}
    real = compiled(preprocessing(kind), tmp_path / "real", "float").manifest
    assert [island.op for island in real.precision.islands] == ["Div", "Sub"], "without bytes it stays float"
    assert m.fidelity and m.fidelity.sqnr_db and real.fidelity and real.fidelity.sqnr_db
    assert m.fidelity.sqnr_db > 38
    assert m.fidelity.sqnr_db > real.fidelity.sqnr_db - 2

    golden = dict(np.load(bundle.file("golden")))
    scale, zero = scores["quantization"]
    for given, expected in zip(golden["input_0"], golden["expected_0"], strict=True):
        run.set_tensor(image["index"], given.astype(np.uint8))
        run.invoke()
        got = (run.get_tensor(scores["index"]).astype(np.float32) - zero) * scale
        assert np.abs(got - expected).max() <= 3 * scale
