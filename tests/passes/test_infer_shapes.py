from __future__ import annotations

import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes import discover


def _infer(model: ir.Model) -> dict[str | None, tuple[object, ...] | None]:
    discover()["infer-shapes"]()(model)
    return {value.name: dims(value) for node in model.graph for value in node.outputs}


def test_stale_shapes_of_intermediate_values_give_way_to_the_inputs(graph):
    model = graph("float[N, 4] x", "float[1, 4] y", "a = Relu(x)  y = Neg(a)")
    model.graph[0].outputs[0].shape = ir.Shape([1, 4])
    assert _infer(model) == {"a": ("N", 4), "y": ("N", 4)}


def test_what_inference_cannot_know_is_kept_as_declared(graph):
    body = "a = local.custom(x)  b = Reshape(x, s)  c = Relu(b)  y = Relu(c)"
    model = graph("float[N, 4] x, int64[2] s", "float[M, 8] y", body)
    model.graph.opset_imports["local"] = 1
    model.graph[0].outputs[0].shape = ir.Shape(["N", 4])
    model.graph[1].outputs[0].shape = ir.Shape(["M", 8])
    # a: there is no shape function. b: the rank is inferred; a declared length may be stale, a name does no harm.
    assert _infer(model) == {"a": ("N", 4), "b": ("M", None), "c": (None, None), "y": ("M", 8)}


def test_what_keeps_a_shape_and_has_no_shape_function(graph):
    norm = "GroupNormalization<num_groups = 2>"
    model = graph("float[N, 4, 5] x, float[4] s", "float y", f"a = {norm}(x, s, s)  y = Relu(a)")
    assert _infer(model) == {"a": ("N", 4, 5), "y": ("N", 4, 5)}
    assert model.graph[0].op_type == "GroupNormalization"


def test_a_second_run_changes_nothing(graph):
    model = graph("float[N, 4] x, int64[2] s", "float y", "a = Reshape(x, s)  y = ReduceSum<keepdims = 0>(a)")
    _infer(model)
    assert not discover()["infer-shapes"]()(model).modified
