from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from flow import contract, quantized, run, samples
from graphs import GRAPHS, Net, chain, concat, multi_output, two_inputs

from dsedge.data import Batch
from dsedge.errors import LoadError
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.observers import Method


@pytest.mark.parametrize("key", ["multi output", "two inputs", "branches"])
def test_what_is_observed_is_what_the_model_computes(key: str) -> None:
    model = normalize(GRAPHS[key]())[0].graph
    names = [v.name for n in model.graph for v in n.outputs if v.dtype == ir.DataType.FLOAT]
    names += [v.name for v in model.graph.inputs]
    batches = samples(GRAPHS[key](), 5)
    observers, count = calibrate(model, names, batches, "minmax")
    assert count == 5
    assert list(observers) == names
    exposed = model.clone()
    kept = {v.name for v in exposed.graph.outputs}
    exposed.graph.outputs.extend(v for n in exposed.graph for v in n.outputs if v.name in set(names) - kept)
    everything = dict(zip([v.name for v in exposed.graph.outputs], run(exposed, batches, optimize=False), strict=True))
    everything |= {v.name: np.concatenate([b.feeds[v.name].ravel() for b in batches]) for v in model.graph.inputs}
    for name in names:
        np.testing.assert_allclose(observers[name].low, everything[name].min(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(observers[name].high, everything[name].max(), rtol=1e-5, atol=1e-6)


def test_samples_are_streamed_once_and_counted() -> None:
    model = normalize(chain())[0].graph
    batches = samples(chain(), 3)
    alive: list[int] = []

    def stream() -> Iterator[Batch]:
        for batch in batches:
            yield batch
            alive.append(len(told))

    told: list[int] = []
    _, count = calibrate(model, ["x"], stream(), "minmax", progress=told.append)
    assert count == 3
    assert told == [1, 2, 3]
    assert alive == [1, 2, 3], "a sample is done before the next is asked for"


def test_no_samples() -> None:
    with pytest.raises(LoadError) as caught:
        calibrate(chain().graph, ["x"], [], "minmax")
    assert caught.value.code == "DS123"


@pytest.mark.parametrize("method", ["minmax", "mse"])
@pytest.mark.parametrize("bad", [0, 2])
@pytest.mark.parametrize("op", ["Sqrt", "Reciprocal"])
def test_an_activation_that_is_not_finite_is_named(op: str, bad: int, method: Method) -> None:
    """Sqrt gives NaN for one element, Reciprocal gives Inf; the others are fine."""
    net = Net(x=(1, 8, 6, 6))
    y = net.op(op, "x")
    net.channels[y] = 8
    model = net.model(net.conv(y, 8))
    batches = [Batch({"x": np.abs(b.feeds["x"]) + 1}, 1, None) for b in samples(model, 4)]
    batches[bad].feeds["x"][0, 0, 0, 0] = -1.0 if op == "Sqrt" else 0.0
    with pytest.raises(LoadError) as caught:
        calibrate(model.graph, [y], batches, method)
    assert caught.value.code == "DS128"
    assert repr(y) in str(caught.value)
    assert f"sample {bad}" in str(caught.value)


def test_tied_values_get_the_range_of_all_of_them() -> None:
    m = quantized(concat())
    tied = [name for names in m.plan.groups().values() if len(names) > 1 for name in names]
    assert {"relu_1", "relu_3", "relu_5", "concat_6"} == set(tied)
    alone = calibrate(m.graph, tied, samples(m.source), "minmax")[0]
    assert m.plan.values["concat_6"].range == (min(o.low for o in alone.values()), max(o.high for o in alone.values()))
    assert len({id(m.plan.values[name].qparams) for name in tied}) == 1


def test_a_fixed_output_is_not_calibrated() -> None:
    accepts = contract()
    rules = tuple(replace(r, fixed_output=(1 / 256, 0)) if r.op == "Sigmoid" else r for r in accepts.operators)
    m = quantized(GRAPHS["SiLU"](), replace(accepts, operators=rules))
    value = m.plan.values["sigmoid_1"]
    assert value.range == (0.0, 255 / 256)
    assert value.qparams.scale == np.float32(1 / 256)
    assert value.qparams.zero_point == 0


def test_constants_are_taken_exactly() -> None:
    model = normalize(GRAPHS["constants"]())[0].graph
    accepts = contract()
    plan = annotate(model.graph, accepts)
    constants = [name for name in plan.values if name in model.graph.initializers]
    assert len(constants) == 2
    observers, _ = calibrate(model, set(plan.values) - set(constants), samples(GRAPHS["constants"]()), "minmax")
    plan = assign_ranges(plan, model.graph, accepts, observers, "minmax")
    array = model.graph.initializers[constants[0]].const_value.numpy()
    assert plan.values[constants[0]].range == (array.min(), array.max())


def test_inputs_and_outputs_are_calibrated_like_any_value() -> None:
    for model in (two_inputs(), multi_output()):
        m = quantized(model)
        assert {spec.name for spec in model.inputs} <= set(m.plan.values)
        assert all(value.qparams is not None for value in m.plan.values.values())
