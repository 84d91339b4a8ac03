"""Random samples: consistent lengths, valid indices, masks that mask nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dsedge.data import open_data
from dsedge.data.noise import LENGTH, index_bound
from dsedge.errors import LoadError
from dsedge.frontend.shapes import fix_shapes
from dsedge.model import Model

FLOAT, INT64, INT32, UINT8, BOOL, STRING = (
    getattr(TensorProto, name) for name in ("FLOAT", "INT64", "INT32", "UINT8", "BOOL", "STRING")
)


def model(nodes: list[Any], constants: dict[str, np.ndarray], **inputs: tuple[int, list[Any] | None]) -> Model:
    values = [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", values, outputs, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return Model(ir.from_proto(proto), "m", "0" * 64, "test", 20)


def unused(**inputs: tuple[int, list[Any] | None]) -> Model:
    first = next(iter(inputs))
    return model([helper.make_node("Cast", [first], ["out"], to=FLOAT)], {}, **inputs)


def encoder(sequence: Any = "sequence", vocabulary: int = 9) -> Model:
    """Embeddings of tokens, segments and positions; the mask weighs a mean, so that all zeros would be 0 / 0."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=INT64),
        helper.make_node("Gather", ["words", "ids"], ["word"]),
        helper.make_node("Gather", ["segments", "token_type_ids"], ["segment"]),
        helper.make_node("Add", ["word", "segment"], ["sum"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
        helper.make_node("ReduceSum", ["mask", "one"], ["count"]),
        helper.make_node("Unsqueeze", ["mask", "two"], ["wide"]),
        helper.make_node("Mul", ["sum", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["total"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["y"]),
    ]
    constants = {
        "words": np.ones((vocabulary, 4), np.float32),
        "segments": np.ones((2, 4), np.float32),
        "one": np.array([1]),
        "two": np.array([2]),
    }
    shape = ["batch", sequence]
    return model(
        nodes, constants, input_ids=(INT32, shape), attention_mask=(INT64, shape), token_type_ids=(INT64, shape)
    )


@pytest.mark.parametrize(("sequence", "length"), [("sequence", LENGTH), (None, LENGTH), (7, 7)])
def test_an_encoder_runs(sequence: Any, length: int) -> None:
    source = encoder(sequence)
    session = ort.InferenceSession(source.to_bytes(), providers=["CPUExecutionProvider"])
    seen: set[int] = set()
    for batch in open_data("random", source).batches():
        assert {array.shape for array in batch.feeds.values()} == {(1, length)}
        assert (batch.feeds["attention_mask"] == 1).all()
        assert batch.feeds["input_ids"].dtype == np.int32
        seen |= set(batch.feeds["input_ids"].flat)
        assert np.isfinite(session.run(None, batch.feeds)[0]).all()
    assert seen == set(range(9)), "all of the table, and nothing beyond it"


def test_bounds_of_indices() -> None:
    source = encoder()
    values = {value.name: index_bound(value) for value in source.graph.graph.inputs}
    assert values == {"input_ids": 9, "attention_mask": None, "token_type_ids": 2}
    depth = {"depth": np.array(5), "values": np.array([0.0, 1.0], np.float32)}
    one_hot = model([helper.make_node("OneHot", ["x", "depth", "values"], ["y"])], depth, x=(INT64, ["n", 3]))
    assert index_bound(one_hot.graph.graph.inputs[0]) == 5
    table = {"table": np.zeros((4, 6), np.float32)}
    columns = model([helper.make_node("Gather", ["table", "x"], ["y"], axis=-1)], table, x=(INT64, [3]))
    assert index_bound(columns.graph.graph.inputs[0]) == 6


def test_dtypes() -> None:
    source = unused(
        x=(FLOAT, ["n", 3, "h", "w"]),
        pixels=(UINT8, ["n", 500]),
        flags=(BOOL, ["n", 4]),
        words=(STRING, ["n", 2]),
        ids=(INT64, ["n", 9]),
    )
    batches = list(open_data("random", source).batches())
    assert batches[0].feeds["x"].shape == (1, 3, LENGTH, LENGTH)
    assert abs(float(np.std([b.feeds["x"] for b in batches])) - 1) < 0.1
    pixels = np.concatenate([b.feeds["pixels"] for b in batches])
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert all(b.feeds["flags"].all() and set(b.feeds["words"].flat) == {"text"} for b in batches)
    assert {int(i) for b in batches for i in b.feeds["ids"].flat} == {0, 1}


def test_random_is_seeded_and_asked_for_by_name() -> None:
    source = unused(x=(FLOAT, ["n", 4]), ids=(INT64, ["n", 2]))
    first, second = open_data("random", source), open_data("random", source)
    assert (first.source, first.samples) == ("random", 32)
    for a, b in zip(first.batches(8), second.batches(8), strict=True):
        np.testing.assert_array_equal(a.feeds["x"], b.feeds["x"])
    fixed = [b.feeds["x"].shape for b in open_data("random", unused(x=(FLOAT, [8, 4]))).batches()]
    assert fixed == [(8, 4)] * 4
    state = unused(x=(FLOAT, [1, 4]), state=(FLOAT, [2, 1, 3]))
    assert len(list(open_data("random", state).batches(8))) == 32


def test_axes_with_a_range_have_its_usual_length() -> None:
    ranged = fix_shapes(encoder("t"), {"input_ids": "1,2:5:8"})
    assert {batch.feeds["input_ids"].shape for batch in open_data("random", ranged).batches()} == {(1, 5)}


def test_what_cannot_be_made_up() -> None:
    for source, options, code, words in (
        (unused(x=(FLOAT, None)), {}, "DS122", "x: float32[?]"),
        (unused(x=(TensorProto.BFLOAT16, [2, 2])), {}, "DS122", "bfloat16"),
        (unused(x=(FLOAT, [1, 1 << 15, 1 << 15])), {}, "DS122", "too large"),
        (unused(x=(FLOAT, [2])), {"labelled": True}, "DS124", "no labels"),
    ):
        with pytest.raises(LoadError) as caught:
            open_data("random", source, **options)
        assert caught.value.code == code and words in str(caught.value)
