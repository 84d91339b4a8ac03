"""Codes at the border of a Q/DQ graph: the same numbers, and what stays float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from flow import contract, producers, quantized, samples
from graphs import Net, residual

from dsedge.errors import LoadError
from dsedge.model import Model
from dsedge.quant.contract import Contract, NumberFormat
from dsedge.quant.interface import IoDtype, as_codes, output_scales, require_io_dtype, tied_states, to_json, with_codes
from dsedge.session import open_session

S8 = replace(contract("arm-dotprod"), activation=NumberFormat("int8", symmetric=False))
U8 = contract("x86-vnni")


def convolutions() -> Model:
    net = Net(x=(1, 8, 12, 12))
    return net.model(net.conv(net.conv("x", 16, act="Relu"), 8))


def moved() -> Model:
    """Channels last outside: a Transpose behind the input and one before the output."""
    net = Net(x=(1, 12, 12, 8))
    inner = net.op("Transpose", "x", perm=[0, 3, 1, 2])
    net.channels[inner] = 8
    return net.model(net.op("Transpose", net.conv(inner, 16), perm=[0, 2, 3, 1]))


def outputs(graph: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(a) for a in open_session(graph, optimize=False, threads=1).run(None, feeds)]


@pytest.mark.parametrize("source", [convolutions, moved])
@pytest.mark.parametrize("accepts", [S8, U8], ids=["s8", "u8"])
@pytest.mark.parametrize("wanted", ["int8", "uint8"])
def test_codes_mean_the_same_numbers(source: Callable[[], Model], accepts: Contract, wanted: IoDtype) -> None:
    model = source()
    qdq = quantized(model, accepts).model
    before = ir.to_proto(qdq).SerializeToString(deterministic=True)
    made, codes, notes = with_codes(qdq, wanted)
    assert ir.to_proto(qdq).SerializeToString(deterministic=True) == before
    assert notes == [] and set(codes) == {made.graph.inputs[0].name, made.graph.outputs[0].name}
    assert [v.name for v in (*made.graph.inputs, *made.graph.outputs)] == list(codes)
    (batch,) = samples(model, 1)
    (expected,) = outputs(qdq, batch.feeds)
    given, result = codes.values()
    limits = np.iinfo(wanted)
    x = np.clip(np.rint(batch.feeds["x"] / given.scale) + given.zero_point, limits.min, limits.max).astype(wanted)
    (got,) = outputs(made, {"x": x})
    assert got.dtype == wanted
    np.testing.assert_array_equal(as_codes({**batch.feeds, "other": got}, codes)["x"], x)
    np.testing.assert_allclose((got.astype(np.int32) - int(result.zero_point)) * result.scale, expected, atol=1e-6)
    if source is convolutions and wanted == accepts.activation.dtype:  # nothing is left to convert
        assert len(producers(made, "QuantizeLinear")) == len(producers(qdq, "QuantizeLinear")) - 1
        assert made.graph.outputs[0].producer() in producers(made, "QuantizeLinear")
    assert to_json(codes, "x") == {"dtype": wanted, "scale": float(given.scale), "zero_point": int(given.zero_point)}


def test_what_is_read_or_written_in_float_stays_float() -> None:
    net = Net(x=(1, 8, 12, 12), y=(1, 8, 12, 12))
    head = net.op("Erf", net.conv("x", 8))
    model = net.model(net.op("Add", head, "y"), net.conv("x", 8))
    qdq = quantized(model, S8, lifted={"Add_2": "a test"}).model
    made, codes, notes = with_codes(qdq, "int8")
    assert set(codes) == {"x", model.outputs[1].name}
    assert notes == [
        "the input 'y' stays float: something reads it that is not INT8",
        f"the output {model.outputs[0].name!r} stays float: what writes it is not INT8",
    ]
    assert made.graph.inputs[1].dtype == ir.DataType.FLOAT
    scales = output_scales(qdq.graph)
    assert scales[0] is None and scales[1] is not None


def test_an_input_that_is_quantized_and_read_in_float() -> None:
    """What reads it in float would see less than it did."""
    net = Net(x=(1, 8, 12, 12))
    model = net.model(net.conv("x", 8), net.op("Erf", "x"))
    made, codes, notes = with_codes(quantized(model, S8).model, "int8")
    assert "x" not in codes and any("'x'" in note for note in notes)
    assert made.graph.inputs[0].dtype == ir.DataType.FLOAT


def test_an_output_that_goes_on() -> None:
    """Its codes are an output and are read by what comes behind."""
    net = Net(x=(1, 8, 12, 12))
    y = net.conv("x", 16, act="Relu")
    model = net.model(y, net.conv(y, 8))
    qdq = quantized(model, S8).model
    made, codes, _ = with_codes(qdq, "int8")
    assert list(codes) == ["x", *(spec.name for spec in model.outputs)]
    (batch,) = samples(model, 1)
    x = np.clip(np.rint(batch.feeds["x"] / codes["x"].scale) + codes["x"].zero_point, -128, 127).astype(np.int8)
    for spec, mine, expected in zip(model.outputs, outputs(made, {"x": x}), outputs(qdq, batch.feeds), strict=True):
        params = codes[spec.name]
        np.testing.assert_allclose((mine.astype(int) - int(params.zero_point)) * params.scale, expected, atol=1e-6)


def test_a_state_and_its_next_value_share_a_scale_wherever_they_lie() -> None:
    net = Net(x=(1, 8, 12, 12), h=(1, 12, 12, 8))
    inner = net.op("Transpose", "h", perm=[0, 3, 1, 2])
    joined = net.op("Add", net.conv("x", 8), inner)
    net.channels[joined] = 8
    y = net.conv(joined, 8)
    model = net.model(net.op("Transpose", y, perm=[0, 2, 3, 1]))
    pairs = tied_states(model.graph.graph, {"h": model.outputs[0].name})
    assert pairs == [(a, b) for a in ("h", inner) for b in (model.outputs[0].name, y)]


def test_a_state_and_its_next_value_are_both_codes_or_none() -> None:
    net = Net(x=(1, 8, 12, 12), h=(1, 8, 12, 12))
    model = net.model(net.conv("x", 8), net.op("Erf", net.conv("h", 8)))
    result, following = (spec.name for spec in model.outputs)
    _, codes, notes = with_codes(quantized(model, S8).model, "int8", {"h": following})
    assert set(codes) == {"x", result}
    assert [note.split(":")[0] for note in notes] == [
        f"the output {following!r} stays float",
        "the input 'h' stays float",
    ]


def test_float_changes_nothing() -> None:
    qdq = quantized(residual(), S8).model
    assert with_codes(qdq, "float") == (qdq, {}, [])


def test_what_a_runtime_has_not_is_refused() -> None:
    assert require_io_dtype("float", S8) == "float"
    assert require_io_dtype("uint8", replace(S8, integer_io=True)) == "uint8"
    with pytest.raises(LoadError) as caught:
        require_io_dtype("int8", S8)
    assert caught.value.code == "DS146"
    with pytest.raises(LoadError) as caught:
        require_io_dtype("int9", S8)
    assert caught.value.code == "DS145" and "int8" in str(caught.value.hint)
