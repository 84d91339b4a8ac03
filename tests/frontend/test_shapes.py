from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Net
from onnx import TensorProto, helper

from dsedge.errors import LoadError
from dsedge.frontend import load
from dsedge.frontend.onnx import from_proto
from dsedge.frontend.shapes import fix_shapes, from_options
from dsedge.frontend.static import with_static_axes
from dsedge.model import Model, Range, dims
from dsedge.passes.normalize import normalize
from dsedge.verify import predictor


def model(*inputs: Sequence[int | str | None] | None) -> Model:
    """a, b, ... -> Concat of the inputs, with shapes of values as an exporter declares them."""
    names = "abcd"[: len(inputs)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, inputs, strict=True)]
    nodes = [
        helper.make_node("Concat", list(names), ["joined"], "join", axis=-1),
        helper.make_node("Relu", ["joined"], ["y"], "relu"),
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "2*T"])
    graph = helper.make_graph(nodes, "g", values, [out])
    graph.value_info.append(helper.make_tensor_value_info("joined", TensorProto.FLOAT, ["N", "2*T"]))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return from_proto(proto, "m", "m.onnx", "0", folder=None)


def refused(model: Model, shapes: dict[str, object], *words: str) -> None:
    with pytest.raises(LoadError) as caught:
        fix_shapes(model, shapes)  # type: ignore[arg-type]
    assert caught.value.code == "DS145"
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("text", ["3,4", "3x4", " 3, 4 ", "float32:3,4", (3, 4), [np.int64(3), np.int32(4)]])
def test_all_ways_to_write_a_shape(text: object) -> None:
    original = model(("N", "T"))
    fixed = fix_shapes(original, {"a": text})  # type: ignore[dict-item]
    assert fixed.inputs[0].shape == (3, 4)
    assert original.inputs[0].shape == ("N", "T"), "the model that was given is not changed"
    assert fix_shapes(original, {"": text}).inputs == fixed.inputs  # type: ignore[dict-item]


def test_a_name_is_fixed_wherever_it_occurs() -> None:
    fixed = fix_shapes(model(("N", "T"), ("N", "T")), {"a": ("N", 5)})
    assert [spec.shape for spec in fixed.inputs] == [("N", 5), ("N", 5)]
    values = {v.name: v for node in fixed.graph.graph for v in node.outputs}
    assert dims(values["joined"]) == dims(values["y"]) == ("N", None), "what was derived is not known yet"
    assert normalize(fixed)[0].outputs[0].shape == ("N", 10)


def test_words_name_axes_and_unknown_ranks_get_one() -> None:
    fixed = fix_shapes(model(None, (None, -1)), {"a": "batch,2", "b": "batch,3"})
    assert [spec.shape for spec in fixed.inputs] == [("batch", 2), ("batch", 3)]
    feeds = {"a": np.ones((4, 2), np.float32), "b": np.ones((4, 3), np.float32)}
    assert predictor(normalize(fixed)[0].graph)(feeds)[0].shape == (4, 5)


@pytest.mark.parametrize("text", ["1:4:16,3", "float32:1:4:16,3", "1:4:16x3", ((1, 4, 16), 3)])
def test_a_range_leaves_an_axis_open_and_is_kept_by_its_name(text: object) -> None:
    fixed = fix_shapes(model(("N", "T"), ("N", "T")), {"a": text})  # type: ignore[dict-item]
    assert [spec.shape for spec in fixed.inputs] == [("N", 3), ("N", 3)]
    assert fixed.ranges == {"N": Range(1, 4, 16)}
    unnamed = fix_shapes(model((None, 3), (None, 3)), {"b": text})  # type: ignore[dict-item]
    assert unnamed.inputs[1].shape == ("b_axis0", 3) and unnamed.ranges == {"b_axis0": Range(1, 4, 16)}


def test_ranges_that_contradict() -> None:
    refused(model(("N", "T"), ("N", "T")), {"a": "1:4:16,3", "b": "1:8:16,3"}, "cannot be both 1:4:16 and 1:8:16")
    refused(model((1, 3), (1, 3)), {"a": "1:4:16,3"}, "axis 0 is 1 in the model")
    for text in ("4:1:16,3", "1:4,3", "0:1:2,3", "1:a:2,3", "1:2:3:4,3"):
        refused(model(("N", 3), ("N", 3)), {"a": text}, "range" if text != "0:1:2,3" else "length 0")
    refused(model(("N", 3), ("N", 3)), {"a": "1:4:2147483648,3"}, "too large")


def test_with_static_axes_a_range_will_do_where_the_runtime_says_so() -> None:
    ranged = fix_shapes(model(("N", "T"), ("N", "T")), {"a": "N,1:4:16"})
    fixed, notes = with_static_axes(ranged, "it", ranges=True)
    assert [spec.shape for spec in fixed.inputs] == [(1, "T"), (1, "T")] and fixed.ranges == ranged.ranges
    assert len(notes) == 2
    with pytest.raises(LoadError, match="DS106"):
        with_static_axes(ranged, "it")


def test_shapes_that_contradict() -> None:
    two = model(("N", 4), ("N", "T"))
    refused(two, {"a": (1, 5)}, "'a'", "axis 1 is 4 in the model, not 5")
    refused(two, {"a": ("N", "x")}, "axis 1 is 4 in the model, not x")
    refused(two, {"a": (1, 4, 1)}, "2 axes in the model, a: float32[N, 4], not 3")
    refused(two, {"a": (1, 4), "b": (2, 3)}, "'N' cannot be both 1 and 2")
    refused(two, {"a": ("T", 4), "b": ("T", 3)}, "'T' is 3 in one input and open in another")
    refused(two, {"a": "int64:1,4"}, "float32 in the model, not int64")
    refused(two, {"aa": (1, 4)}, "did you mean 'a'?")
    refused(two, {"": (1, 4)}, "needs the name", "a, b")
    refused(model(("N", 4)), {"a": (1, 4), "": (1, 4)}, "two shapes")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "1,,2",
        "0,4",
        "-1,4",
        "1.5,4",
        "1e3,4",
        "1x,4",
        "4,\0",
        "a b",
        "9" * 5000,
        "٣,4",
        (1.5,),
        (None,),
        3,
        ((1,),),
    ],
)
def test_what_is_no_shape(text: object) -> None:
    refused(model(("N", "T")), {"a": text}, "shape")


def test_absurd_sizes_are_refused_before_anything_is_allocated() -> None:
    refused(model(("N", "T")), {"a": "2147483648,2"}, "too large")
    refused(model(None), {"a": (1,) * 17}, "17 axes")
    refused(model(("N", "T")), {"a": "half:1,2"}, "'half' is no element type")


def test_options() -> None:
    assert from_options(["x:0=1,2", "3x4", "a=b=1"]) == {"x:0": "1,2", "": "3x4", "a=b": "1"}
    with pytest.raises(LoadError):
        from_options(["x=1", "x=1"])


def test_a_stale_output_shape_does_not_win(tmp_path: Path) -> None:
    net = Net(x=("N", 3, "H", "W"))
    proto = net.proto(net.conv("x", 8))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info(proto.graph.output[0].name, 1, ["N", 8, "H", "W"]))
    onnx.save(proto, tmp_path / "m.onnx")
    fixed = load(tmp_path / "m.onnx", shapes={"x": "1x3x10x12"})
    assert normalize(fixed)[0].outputs[0].shape == (1, 8, 10, 12)
