"""Streaming models: states come from the model itself, and their scales are tied to themselves."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Net
from onnx import TensorProto, helper

import dsedge
from dsedge.errors import LoadError
from dsedge.frontend.onnx import from_proto
from dsedge.model import Model
from dsedge.quant.plan import QuantPlan, ValuePlan
from dsedge.session import open_session
from dsedge.streaming import closed_loop, from_options, open_samples, with_states

STATES = {"cache": "cache_next"}


def causal_conv(channels: int = 24, *, behind_another: bool = False) -> onnx.ModelProto:
    """A causal 1-D convolution that keeps the last two columns it read: [1, channels, 2] beside a frame of 8."""
    net = Net(frame=(1, channels, 8), cache=(1, channels, 2))
    frame = net.conv("frame", channels, 1, rank=1, act="Relu") if behind_another else "frame"
    x = net.op("Concat", "cache", frame, axis=2)
    net.channels[x] = channels
    weight = net.weight(channels, channels, 3)
    y = net.op("Relu", net.op("Conv", x, weight, net.const(np.zeros(channels, np.float32))))
    net.channels[y] = channels
    z = net.conv(y, channels, 1, rank=1)
    nxt = net.op("Slice", x, net.ints(8), net.ints(10), net.ints(2))
    proto = net.proto(z, nxt)
    for node in proto.graph.node:
        node.output[:] = ["cache_next" if name == nxt else name for name in node.output]
    proto.graph.output[1].CopyFrom(helper.make_tensor_value_info("cache_next", TensorProto.FLOAT, [1, channels, 2]))
    return proto


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return with_states(from_proto(causal_conv(), "causal", "causal.onnx", "0", folder=None), STATES)


def frames(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 24, 8)).astype(np.float32)


def test_samples_carry_the_state_of_the_float_model(model: Model) -> None:
    data = open_samples({"frame": frames()}, model)
    batches = list(data.batches())
    assert not batches[0].feeds["cache"].any()
    for before, after in itertools.pairwise(batches):
        np.testing.assert_array_equal(after.feeds["cache"], before.feeds["frame"][:, :, -2:])
    np.testing.assert_array_equal(data.head(3)[2].feeds["cache"], batches[2].feeds["cache"])


def test_a_closed_loop_equals_the_whole_sequence(model: Model) -> None:
    session = open_session(model.graph)
    step = closed_loop(lambda feeds: list(session.run(None, feeds)), model)
    stream = np.concatenate([step({"frame": f[None]})[0] for f in frames(4)], axis=2)
    wide = causal_conv()
    whole = np.concatenate(list(frames(4)), axis=1)[None]
    wide.graph.input[0].type.tensor_type.shape.dim[2].dim_value = whole.shape[2]
    for out in wide.graph.output:
        out.type.tensor_type.ClearField("shape")
    full = open_session(from_proto(wide, "w", "w", "0", folder=None).graph)
    feeds = {"frame": whole, "cache": np.zeros((1, 24, 2), np.float32)}
    np.testing.assert_allclose(stream, full.run(None, feeds)[0], rtol=1e-5, atol=1e-5)


def test_scales_of_a_state_are_tied_to_themselves(tmp_path: Path) -> None:
    path = tmp_path / "causal.onnx"
    onnx.save(causal_conv(behind_another=True), path)
    bundle = dsedge.compile(
        path, target="raspberry-pi-5", calibration={"frame": frames()}, states=STATES, output=tmp_path / "out"
    )
    values = {v["name"]: v for v in json.loads((bundle.path / "plan.json").read_text())["values"]}
    assert values["cache"]["group"] == values["cache_next"]["group"]
    assert values["cache"]["scale"] == values["cache_next"]["scale"]
    assert any("the state cache from cache_next" in note for note in bundle.manifest.notes)


def test_ties_reach_values_that_no_operator_ties() -> None:
    plan = QuantPlan("", {}, {name: ValuePlan(name, group) for name, group in ("aa", "ba", "cc", "dd")})
    assert plan.tied([("a", "c"), ("d", "elsewhere")]).groups() == {"a": ["a", "b", "c"], "d": ["d"]}


def test_accuracy_is_judged_in_a_closed_loop(tmp_path: Path) -> None:
    path = tmp_path / "causal.onnx"
    onnx.save(causal_conv(), path)
    bundle = dsedge.compile(
        path,
        target="pos-x86",
        runtime="onnxruntime",
        calibration={"frame": frames()},
        evaluate=({"frame": frames(20)}, "sqnr"),
        states=STATES,
        output=tmp_path / "out",
    )
    (metric,) = bundle.manifest.metrics
    assert metric.samples == 20 and metric.quantized > 20


@pytest.mark.parametrize(
    ("states", "what"),
    [
        ({"cash": "cache_next"}, "no input 'cash'"),
        ({"cache": "nothing"}, "no output 'nothing'"),
        ({"frame": "cache_next"}, "cannot be the output"),
    ],
)
def test_wrong_states_are_refused(states: dict[str, str], what: str) -> None:
    source = from_proto(causal_conv(), "causal", "causal.onnx", "0", folder=None)
    with pytest.raises(LoadError, match=f"DS145.*{what}"):
        with_states(source, states)


@pytest.mark.parametrize("options", [["h"], ["=o"], ["h="], ["h=a", "h=b"]])
def test_options_are_pairs(options: list[str]) -> None:
    with pytest.raises(LoadError, match="DS145"):
        from_options(options)
