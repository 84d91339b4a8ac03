"""Images with channels last or first at the border of a model, the same numbers everywhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flow import run, samples
from graphs import Net, chain, mlp, multi_output, upsample

import dsedge
from dsedge.bench.runner import load_onnxruntime
from dsedge.data import Batch, open_data
from dsedge.errors import LoadError
from dsedge.layout import find_layout
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.streaming import with_states
from dsedge.verify import verify_bundle

BOARD = "raspberry-pi-5"  # its latency is not measured here


def channels_last() -> Model:
    """As exporters from TensorFlow write it."""
    net = Net(x=("N", 12, 12, 8))
    inner = net.op("Transpose", "x", perm=[0, 3, 1, 2])
    net.channels[inner] = 8
    return net.model(net.op("Transpose", net.conv(inner, 16), perm=[0, 2, 3, 1]))


def states() -> Model:
    """Frames and a state; what the state becomes goes through an operator that may change what axes mean."""
    net = Net(x=(1, 8, 12, 12), h=(1, 8, 12, 12))
    y = net.op("Add", net.conv("x", 8), net.conv("h", 8))
    return net.model(y, net.op("Reshape", net.op("Mul", "h", net.const(0.5)), net.ints(1, 8, 12, 12)))


@pytest.mark.parametrize(
    ("source", "wanted", "inputs", "outputs"),
    [
        (upsample, "nhwc", ["NHWC"], ["NHWC"]),
        (multi_output, "nhwc", ["NHWC"], ["NHWC", "NHWC", None]),
        (channels_last, "nchw", ["NCHW"], ["NCHW"]),
        (channels_last, "nhwc", ["NHWC"], ["NHWC"]),
    ],
)
def test_the_same_numbers_in_another_order(source: Any, wanted: str, inputs: list[str], outputs: list[str]) -> None:
    model = normalize(source())[0]
    layout = find_layout(model, wanted)
    changed = layout.model(model)
    assert [layout.letters.get(spec.name) for spec in changed.inputs] == inputs == [s.layout for s in changed.inputs]
    assert [layout.letters.get(spec.name) for spec in changed.outputs] == outputs
    assert [s.name for s in (*changed.inputs, *changed.outputs)] == [s.name for s in (*model.inputs, *model.outputs)]
    batches = samples(model, 2)
    moved = [Batch(layout.feeds(batch.feeds), 1, None) for batch in batches]
    for spec, other, a, b in zip(
        model.outputs, changed.outputs, run(model.graph, batches), run(changed.graph, moved), strict=True
    ):
        assert spec.shape is not None and other.shape is not None
        shape, axes = [d if isinstance(d, int) else 1 for d in spec.shape], layout.outputs.get(spec.name)
        expected = a.reshape(2, *shape)[:, 0]
        if axes is not None:
            expected = expected.transpose(axes)
            assert other.shape == tuple(spec.shape[axis] for axis in axes)
        np.testing.assert_allclose(b, expected.ravel(), atol=1e-5)


def test_transpositions_that_meet_vanish() -> None:
    model = normalize(channels_last())[0]
    changed = find_layout(model, "nchw").model(model)
    assert [node.op_type for node in changed.graph.graph] == ["Conv"]


def test_without_a_wish_nothing_changes_and_layouts_are_known() -> None:
    model = normalize(upsample())[0]
    layout = find_layout(model, None)
    assert layout.model(model) is model
    assert set(layout.letters.values()) == {"NCHW"} and len(layout.letters) == 2


def test_the_next_value_of_a_state_lies_as_the_state() -> None:
    model = states()
    result, following = (spec.name for spec in model.outputs)
    assert find_layout(normalize(model)[0], "nhwc").inputs == {"x": (0, 2, 3, 1), "h": (0, 2, 3, 1)}
    known = normalize(with_states(model, {"h": following}))[0]
    assert find_layout(known, "nhwc").outputs == {result: (0, 2, 3, 1), following: (0, 2, 3, 1)}
    # A state that no convolution reads keeps its axes, and so does the output that it becomes.
    net = Net(x=(1, 8, 12, 12), h=(1, 3, 12, 12))
    unread = with_states(net.model(net.op("Erf", "h"), net.conv("x", 3)), {"h": "conv_1"})
    assert set(find_layout(normalize(unread)[0], "nhwc").outputs) == set()


@pytest.mark.parametrize(("source", "wanted"), [(chain, "nwhc"), (mlp, "nhwc")])
def test_what_cannot_be(source: Any, wanted: str) -> None:
    with pytest.raises(LoadError) as caught:
        find_layout(normalize(source())[0], wanted)
    assert caught.value.code == "DS145"


def test_the_bundle_speaks_the_new_layout_and_data_the_old(tmp_path: Path) -> None:
    model = upsample()
    seen: list[tuple[int, ...]] = []

    def evaluate(predict: Any) -> float:
        (output,) = predict(samples(model, 1)[0].feeds)
        seen.append(output.shape)
        return 1.0

    bundle = dsedge.compile(
        model,
        target=BOARD,
        calibration=[batch.feeds["x"] for batch in samples(model, 8)],
        evaluate=evaluate,
        runtime="onnxruntime",
        io_layout="nhwc",
        output=tmp_path / "out",
    )
    (spec,), (result,) = bundle.manifest.model.inputs, bundle.manifest.model.outputs
    assert (spec["shape"][1:], spec["layout"], result["layout"]) == ([12, 12, 8], "NHWC", "NHWC")
    assert seen == [(1, 3, 12, 12)] * 2
    golden = dict(np.load(bundle.file("golden")))
    assert golden["input_0"].shape == (4, 1, 12, 12, 8) and golden["expected_0"].shape == (4, 1, 12, 12, 3)
    expected = samples(model, 1)[0].feeds["x"].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(golden["input_0"][0], expected)
    got = load_onnxruntime(bundle.file("model"))({"x": expected})[0]
    np.testing.assert_allclose(got, golden["expected_0"][0], atol=1e-5)
    verify_bundle(bundle)


def test_samples_are_those_that_were_given() -> None:
    model = normalize(chain())[0]
    data = open_data([batch.feeds["x"][0] for batch in samples(model, 5)], model)
    moved = find_layout(model, "nhwc").data(data)
    assert (moved.source, moved.samples) == (data.source, data.samples)
    assert [b.feeds["x"].shape for b in moved.batches(4)] == [(4, 12, 12, 8), (1, 12, 12, 8)]
    assert moved.sha256() == data.sha256() is not None
    assert len(moved.head(2)) == 2
