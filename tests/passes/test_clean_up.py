from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from dsedge.passes import discover


def test_what_nothing_reads_is_removed(graph, check):
    arrays = {"used": np.float32([1, 2]), "unused": np.float32([3])}
    model = graph("float[2] x, float[2] idle", "float[2] y", "d = Neg(x)  e = Abs(d)  y = Add(x, used)", **arrays)
    model.graph.opset_imports["com.example"] = 1
    result = check(model, "clean-up")
    assert result.ops == {"Add": 1}
    assert list(model.graph.initializers) == ["used"]
    assert list(model.opset_imports) == [""]
    assert [value.name for value in model.graph.inputs] == ["x", "idle"]


def test_names_are_unique_and_outputs_that_nobody_asked_for_get_none():
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 20]> g (float[2, 1, 3] x, bool c) => (float[1, 1, 2] h, float[2] z) {'
        " , h = LSTM<hidden_size = 2>(x, w, r)"
        " z = If(c) <then_branch = t () => (float[2] v) { q = Identity(k)  v = Neg(q) },"
        " else_branch = e () => (float[2] v) { q = Identity(k)  v = Abs(q) }> }"
    )
    arrays = {"w": np.ones((1, 8, 3)), "r": np.ones((1, 8, 2)), "k": np.ones(2)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items())
    model = ir.from_proto(proto)
    model.graph[1].name = "h"
    assert discover()["clean-up"]()(model).modified
    nodes = list(model.graph.all_nodes())
    assert [node.name for node in nodes] == ["h", "h_1", "q", "v", "q_1", "v_1"]
    values = [value.name for node in nodes for value in node.outputs]
    assert values == ["", "h", "z", "q", "v", "q_1", "v_1"]
    assert not discover()["clean-up"]()(model).modified
