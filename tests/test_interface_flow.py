"""The whole flow for a runtime that wants fixed shapes and takes codes: LiteRT, its artifact opened by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow import samples
from graphs import Net, as_model
from rich.console import Console

import dsedge
from dsedge.bundle import Bundle, sha256
from dsedge.errors import BundleError, LoadError
from dsedge.inspect import inspect_artifact
from dsedge.model import Model
from dsedge.report.graph import artifact_inspection
from dsedge.report.plan import read_plan
from dsedge.verify import verify_bundle

interpreter = pytest.importorskip("ai_edge_litert.interpreter")
BOARD = "raspberry-pi-5"  # its latency is not measured here


def segments() -> Model:
    net = Net(x=("N", 8, 12, 12))
    return net.model(net.conv(net.conv("x", 16, act="Relu", strides=[2, 2]), 4))


def compiled(folder: Path, **options: Any) -> Bundle:
    model = segments()
    data = [batch.feeds["x"][0] for batch in samples(model, 8)]
    return dsedge.compile(model, target=BOARD, runtime="litert", calibration=data, output=folder, **options)


@pytest.mark.parametrize("dtype", ["float", "int8", "uint8"])
@pytest.mark.parametrize("layout", [None, "nhwc"])
def test_the_file_has_the_interface_that_the_manifest_tells(tmp_path: Path, dtype: str, layout: str | None) -> None:
    bundle = compiled(tmp_path / "out", io_dtype=dtype, io_layout=layout, strict_int8=True)
    m = bundle.manifest
    opened = interpreter.Interpreter(model_path=str(bundle.file("model")))
    details = [*opened.get_input_details(), *opened.get_output_details()]
    for spec, detail in zip([*m.model.inputs, *m.model.outputs], details, strict=True):
        assert spec["dtype"] == np.dtype(detail["dtype"]).name == ("float32" if dtype == "float" else dtype)
        assert spec["shape"] == detail["shape"].tolist()
        assert spec["layout"] == (layout or "nchw").upper()
        if dtype != "float":
            assert (spec["scale"], spec["zero_point"]) == pytest.approx(detail["quantization"])
    assert m.precision.precision == "int8" and m.failed == []
    assert (m.precision.float_ops, m.precision.islands) == (0, []), "no transposition is left"
    nodes = read_plan(bundle).nodes
    assert {node.precision for node in nodes} == {"int8"}, "nor listed"
    assert {node.lowered for node in nodes if node.op == "Transpose"} <= {"nothing"}
    (steps,) = m.fidelity.golden_steps if m.fidelity else [None]
    assert steps is not None and steps.max <= 1 and steps.exact > 0.95
    assert m.notes == ["litert wants fixed shapes: the open batch axis of 'x' is 1"]
    golden = dict(np.load(bundle.file("golden")))
    assert golden["input_0"].dtype == np.float32
    assert golden["input_0"].shape[1:] == ((1, 12, 12, 8) if layout else (1, 8, 12, 12))
    verify_bundle(bundle)


def test_the_same_artifact_whatever_its_interface(tmp_path: Path) -> None:
    plain, turned = (compiled(tmp_path / str(layout), io_layout=layout) for layout in (None, "nhwc"))
    one, other = (dict(np.load(bundle.file("golden")))["expected_0"] for bundle in (plain, turned))
    np.testing.assert_array_equal(one.transpose(0, 1, 3, 4, 2), other)


def test_explain_knows_what_became_of_a_node(tmp_path: Path) -> None:
    lowered = {node.name: node.lowered for node in read_plan(compiled(tmp_path / "out")).nodes}
    assert "CONV_2D" in (lowered["Conv_0"] or "")


def test_an_axis_that_is_no_batch_must_be_given(tmp_path: Path) -> None:
    net = Net(x=("N", "T", 16))
    model = net.model(net.op("MatMul", "x", net.weight(16, 32, fan_in=16)))
    options: dict[str, Any] = {"runtime": "litert", "calibration": "random", "output": tmp_path / "out"}
    with pytest.raises(LoadError) as caught:
        dsedge.compile(model, target=BOARD, **options)
    assert caught.value.code == "DS106" and "--shape x=1,128,16" in str(caught.value.hint)


def test_what_is_no_real_number_takes_no_codes(tmp_path: Path) -> None:
    net = Net(x=(1, 8, 12, 12))
    proto = net.proto(net.conv(net.op("Mul", net.op("Cast", "x", to=1), net.const(1 / 255)), 8))
    proto.graph.input[0].type.tensor_type.elem_type = 2  # uint8
    proto.graph.node[1].input[0] = net.nodes[0].output[0]
    options: dict[str, Any] = {"runtime": "litert", "calibration": "random", "output": tmp_path / "out"}
    m = dsedge.compile(as_model(proto), target=BOARD, io_dtype="int8", **options).manifest
    assert m.model.inputs[0]["dtype"] == "uint8"
    assert any(note.startswith("the input 'x' is uint8 in the model, and stays so") for note in m.notes)


def test_a_file_that_is_no_onnx_is_inspected(tmp_path: Path) -> None:
    bundle = compiled(tmp_path / "out", io_dtype="uint8", io_layout="nhwc")
    found = inspect_artifact(bundle)
    assert found is not None
    assert found.operators == {"QUANTIZE": {"int8": 2}, "CONV_2D": {"int8": 2}, "PAD": {"int8": 1}} and found.nodes == 5
    assert found.bytes == bundle.file("model").stat().st_size
    assert found.fingerprint == sha256(bundle.file("model")) != bundle.manifest.model.fingerprint
    assert json.loads(json.dumps(found.to_json()))["inputs"] == bundle.manifest.model.inputs
    console = Console(width=200)
    with console.capture() as capture:
        console.print(artifact_inspection(found))
    [shown] = [line.rstrip() for line in capture.get().splitlines() if line.startswith("input")]
    assert "x: uint8, scale 0.0" in shown and shown.endswith("[1, 12, 12, 8] NHWC")
    path = bundle.file("model")
    for damaged in (b"", path.read_bytes()[:200], b"\xff" * 400):
        path.write_bytes(damaged)
        with pytest.raises(BundleError) as caught:
            inspect_artifact(bundle)
        assert caught.value.code == "DS803"
