from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from graphs import Net, chain

import dsedge
from dsedge.errors import LoadError
from dsedge.frontend import simplify
from dsedge.frontend.onnx import from_proto
from dsedge.frontend.simplify import TOOLS, simplified
from dsedge.model import Model


def idle() -> Model:
    net = Net(x=("N", 8, 12, 12))
    y = net.op("Identity", net.op("Identity", net.conv("x", 16, act="Relu")))
    return from_proto(net.proto(net.head(y)), "net", "net.onnx", "0", folder=None)


def needs(tool: str) -> None:
    if importlib.util.find_spec(tool) is None:
        pytest.skip(f"{tool} is not installed")


@pytest.mark.parametrize("tool", TOOLS)
def test_simplifiers(tool: str) -> None:
    needs(tool)
    model = idle()
    result, record = simplified(model, tool)
    assert record.name == "simplify" and record.changed and tool in record.notes[0], record
    assert (
        len(list(result.graph.graph)) < len(list(model.graph.graph)) and "outputs differ by at most" in record.notes[0]
    )
    assert (result.inputs, result.fingerprint) == (model.inputs, model.fingerprint)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os; os.abort()", "signal 6"),
        ("raise RuntimeError('graph too clever')", "graph too clever"),
        ("import time; time.sleep(60)", "more than 3 seconds"),
        (
            "model = onnx.load(source); t = model.graph.initializer[1]; t.raw_data = bytes(len(t.raw_data))",
            "another function",
        ),
        (
            "model = onnx.load(source); model.graph.output[0].name = model.graph.node[0].output[0]",
            "other inputs or outputs",
        ),
        ("model = onnx.load(source); del model.graph.node[0]", "does not run"),
        ("model = onnx.ModelProto()", "cannot be read"),
    ],
)
def test_a_result_that_cannot_be_trusted_is_dropped(monkeypatch: pytest.MonkeyPatch, script: str, words: str) -> None:
    monkeypatch.setitem(simplify._SCRIPTS, "onnxscript", script)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    model = idle()
    result, record = simplified(model, "onnxscript", timeout_s=3 if "sleep" in script else 120)
    assert result is model and not record.changed
    assert "the original was kept" in record.notes[0] and words in record.notes[0], record.notes


def test_tools_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoadError) as caught:
        simplified(chain(), "onnxsimp")
    assert caught.value.code == "DS145" and "did you mean 'onnxsim'?" in str(caught.value)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(dsedge.DsedgeError) as missing:
        simplified(chain(), "onnxslim")
    assert missing.value.code == "DS402"


def test_the_manifest_tells(tmp_path) -> None:  # type: ignore[no-untyped-def]
    needs("onnxslim")
    samples = np.random.default_rng(0).standard_normal((8, 8, 12, 12)).astype(np.float32)
    bundle = dsedge.compile(
        idle(), target="raspberry-pi-5", calibration={"x": samples}, simplify="onnxslim", output=tmp_path / "b"
    )
    (step,) = [step for step in bundle.manifest.passes if step.name == "simplify"]
    assert step.changed and step.notes
