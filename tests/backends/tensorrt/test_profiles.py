"""Profiles: in which shapes a graph is run."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import Net

from dsedge.backends.tensorrt.graphs import compare, typed_graph
from dsedge.backends.tensorrt.profiles import at_ends
from dsedge.backends.tensorrt.settings import Profile
from dsedge.data import Batch
from dsedge.errors import LoadError, VerifyError
from dsedge.passes.normalize import normalize

FILE = "model.fp16.onnx"
SAMPLE = Batch({"words": np.ones((1, 5), np.float32)}, 1, None)


def encoder(factor: float = 1.0) -> ir.Model:
    """Rows of a table of 100 words, and of one of 32 places as far as there are words, added and enlarged."""
    net = Net(words=("N", "T"))
    length = net.op("Shape", "words", start=1, end=2)
    rows = net.op("Gather", net.weight(100, 8), net.op("Cast", "words", to=onnx.TensorProto.INT64))
    y = net.op("Abs", net.op("Add", rows, net.op("Slice", net.weight(32, 8), net.ints(0), length, net.ints(0))))
    for _ in range(2):
        y = net.op("Mul", net.op("Add", y, y), net.op("Add", y, net.const(np.float32(factor))))
    return normalize(net.model(y))[0].graph


def ends(batch: int, length: int) -> dict[str, Profile]:
    return {"words": Profile(min=[1, 2], opt=[4, 8], max=[batch, length])}


def test_lengths_are_run_whole_and_of_a_batch_a_part() -> None:
    model = encoder()
    note, golden = at_ends(ends(10**6, 32), model, {FILE: typed_graph(model)[0]}, [SAMPLE])
    assert note.startswith(f"{FILE} runs in the least, usual and greatest shape: ") and note.endswith("float model")
    assert golden.endswith("of the shape words [1, 5] alone")
    assert not at_ends({}, model, {FILE: model}, [SAMPLE])


def test_a_length_that_the_model_does_not_take() -> None:
    model = encoder()
    with pytest.raises(LoadError, match="--shape allows") as caught:
        at_ends(ends(8, 33), model, {FILE: model}, [SAMPLE])
    assert "narrower" in (caught.value.hint or "")


def test_a_graph_that_overflows_there() -> None:
    model = encoder(1000.0)
    typed, _ = typed_graph(model)  # without ranges: it computes in float16 what exceeds it
    assert str(compare(model, [typed], [SAMPLE])[0]) == "NaN or Inf, unlike"
    with pytest.raises(VerifyError, match="DS501"):
        at_ends(ends(8, 32), model, {FILE: typed}, [SAMPLE])


def test_zeros_that_a_graph_is_far_from_are_no_overflow() -> None:
    models = []
    for factor in (0.0, 1.0):
        net = Net(words=("N", "T"))
        models.append(normalize(net.model(net.op("Mul", "words", net.const(np.float32(factor)))))[0].graph)
    note, _ = at_ends(ends(8, 32), models[0], {FILE: models[1]}, [SAMPLE])
    assert "shape: -200.0 dB from" in note
