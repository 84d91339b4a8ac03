from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from dsedge.passes import discover

RNG = np.random.default_rng(0)
# The parser takes the bits of a half: 15360 is 1.0, 16384 is 2.0.
ARRAYS = {"w": RNG.standard_normal((8, 4)).astype(np.float16), "low": np.float16(-65504)}


def _run(model: ir.Model, **feeds: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def _widen(model: ir.Model) -> list[str]:
    discover()["infer-shapes"]()(model)
    instance = discover()["widen-half"]()
    assert instance(model).modified
    assert not discover()["widen-half"]()(model).modified
    inside = [v for node in model.graph.all_nodes() for v in node.outputs if not v.is_graph_output()]
    assert all(v.dtype is not None and v.dtype != ir.DataType.FLOAT16 for v in inside)
    return instance.notes


def test_the_inside_is_float32_and_the_border_stays(graph):
    body = (
        "m = MatMul(x, w)  n = Neg(m)  h = Cast<to = 10>(f)  s = Add(n, h)  b = Less(s, low)  k = Where(b, low, s)"
        "  d = Shape(s)  o = ConstantOfShape<value = float16[1] {16384}>(d)  y = Mul(k, o)  z = Add(y, h)"
    )
    model = graph("float16[N, 8] x, float[N, 4] f", "float16[N, 4] y, float16[N, 4] z, float16[N, 4] n", body, **ARRAYS)
    feeds = {"x": RNG.standard_normal((3, 8)).astype(np.float16), "f": RNG.standard_normal((3, 4)).astype(np.float32)}
    before = _run(model, **feeds)
    notes = _widen(model)
    after = _run(model, **feeds)
    assert [(v.name, v.dtype) for v in model.graph.outputs] == [(name, ir.DataType.FLOAT16) for name in "yzn"]
    assert model.graph.inputs[0].dtype == ir.DataType.FLOAT16
    assert model.graph.initializers["low"].const_value.numpy() == -65504
    for one, other in zip(before, after, strict=True):
        assert one.dtype == other.dtype == np.float16
        np.testing.assert_allclose(other, one, rtol=5e-3, atol=5e-3)
    assert notes == ["2 weights and 8 values were half precision"]


def test_bodies_of_branches(graph):
    body = (
        "a = Relu(x)  y = If(c) <then_branch = t () => (float16[2] v) { v = Add(a, x) },"
        " else_branch = e () => (float16[2] v) { v = Constant<value = float16[2] {15360, 16384}>() }>"
    )
    model = graph("float16[2] x, bool c", "float16[2] y", body)
    _widen(model)
    x = np.float16([0.5, -1])
    for c, expected in ((True, [1.0, -1.0]), (False, [1.0, 2.0])):
        assert _run(model, x=x, c=np.array(c))[0].tolist() == expected


def test_a_constant_that_is_an_output_and_an_input_that_is_one(graph):
    model = graph("float16[2] x", "float16[2] w, float16[2] x, float16[2] y", "y = Add(x, w)", w=np.float16([1, 2]))
    _widen(model)
    assert [out.tolist() for out in _run(model, x=np.float16([3, 4]))] == [[1, 2], [3, 4], [4, 6]]


def test_bfloat16_weights(graph):
    model = graph("float[N, 2] x", "float[N, 2] y", "f = Cast<to = 1>(w)  y = MatMul(x, f)")
    weight = ir.tensor(np.float32([[1, 2], [3, 4]])).numpy().astype(ir.DataType.BFLOAT16.numpy())
    model.graph.register_initializer(value := ir.val("w", const_value=ir.tensor(weight, name="w")))
    model.graph[0].replace_input_with(0, value)
    _widen(model)
    assert _run(model, x=np.float32([[1, 1]]))[0].tolist() == [[4, 6]]


def test_a_float_model_is_left_alone(graph, check):
    check(graph("float[N] x", "float[N] y", "y = Relu(x)"), "widen-half", changes=False)
