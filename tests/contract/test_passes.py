"""What every pass must keep to, whoever wrote it: each discovered pass over a set of awkward graphs."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dsedge.passes import discover

RNG = np.random.default_rng(0)
PASSES = discover()
SECTIONS = ("What:", "Why:", "When not:", "Cost:")

GRAPHS = {
    "an input is the output": (20, "g (float[2] x) => (float[2] x) { }"),
    "outputs are an input, a constant and one value under two names": (
        20,
        "g (float[2] x) => (float[2] y, float[2] z, float[2] a, float[2] b)"
        " <float[2] w = {1.0, 2.0}> { y = Identity(x)  z = Identity(w)  a = Relu(x)  b = Identity(a) }",
    ),
    "an initializer is the output": (
        20,
        "g (float[2] x) => (float[2] w, float[2] y) <float[2] w = {1.0, 2.0}> { y = Add(x, w) }",
    ),
    "scalars and empty tensors": (
        20,
        "g (float x, float[0, 3] e) => (float y, float[N, 3] z) <int64[1] axes = {0}>"
        " { a = Unsqueeze(x, axes)  b = Squeeze(a, axes)  y = Neg(b)  c = Concat<axis = 0>(e, e)  z = Identity(c) }",
    ),
    "branches": (
        20,
        "g (float[2] x, bool c) => (float[2] y) { a = Relu(x)  b = Identity(a)"
        " y = If(c) <then_branch = t () => (float[2] v) { k = Constant<value = float[2] {1.0, 2.0}>()  v = Add(b, k) },"
        " else_branch = e () => (float[2] v) { v = Identity(b) }> }",
    ),
    "a loop whose state grows": (
        20,
        "g (float[2] x, int64 n, bool go) => (float[M] y, float[K, 2] s) { y, s = Loop(n, go, x) <body = l"
        " (int64 i, bool k, float[S] v) => (bool ko, float[M] w, float[2] u) { ko = Identity(k)"
        " d = Shape(v)  f = Cast<to = 1>(d)  p = Add(v, f)  w = Concat<axis = 0>(p, x)  u = Identity(x) }> }",
    ),
    "a convolution of an old opset": (
        9,
        "g (float[N, 3, 8, 8] x, float[4, 3, 3, 3] w, float[4] v) => (float[N, 2] y) <float[4, 2] f = "
        "{1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}> { c = Conv(x, w)  n = BatchNormalization(c, v, v, v, v)"
        " d = Dropout<ratio = 0.5>(n)  r = Relu(d)  m = ReduceMean<axes = [2, 3], keepdims = 0>(r)  y = MatMul(m, f) }",
    ),
    "idioms half inside of a branch": (
        20,
        "g (float[2, 3, 4] x, bool c) => (float[2, 3, 4] y) <float r = {1.4142135}, float one = {1.0},"
        " float half = {0.5}, float zero = {0.0}, float three = {3.0}, float six = {6.0}> { d = Div(x, r)  e = Erf(d)"
        " h = Add(x, three)  m = Max(h, zero)  t = Transpose<perm = [0, 2, 1]>(x)"
        " y = If(c) <then_branch = t () => (float[2, 3, 4] v) { a = Add(e, one)  p = Mul(x, a)  v = Mul(p, half) },"
        " else_branch = e () => (float[2, 3, 4] v) { n = Min(m, six)  q = Mul(x, n)  s = Div(q, six)"
        " u = Transpose<perm = [0, 2, 1]>(t)  v = Add(s, u) }> }",
    ),
    "a recurrent layer without its sequence output": (
        20,
        "g (float[5, 1, 3] x, float[1, 8, 3] w, float[1, 8, 2] r) => (float[1, 1, 2] h)"
        " <float[1, 1, 2] z = {0.0, 0.0}> { , h = LSTM<hidden_size = 2>(x, w, r, , , z, z) }",
    ),
    "already quantized": (
        20,
        "g (float[2, 2] x) => (float[2, 2] y) <int8[2, 2] w = {1, 2, 3, 4}, float s = {0.5}, int8 z = {0}> {"
        " q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  e = DequantizeLinear(w, s, z)"
        " y = MatMul(d, e) }",
    ),
    "a function": (
        20,
        "g (float[2] x) => (float[2] y) { a = local.f(x)  y = local.f(a) }"
        ' <domain: "local", opset_import: ["": 20]> f (v) => (w) { t = Abs(v)  w = Sqrt(t) }',
    ),
}


def _graph(key: str) -> ir.Model:
    opset, text = GRAPHS[key]
    header = f'<ir_version: {9 if opset >= 20 else 3}, opset_import: ["": {opset}, "local": 1]>'
    proto = onnx.parser.parse_model(f"{header} {text}")
    for index, node in enumerate(proto.graph.node):
        node.name = f"node{index}"
    # In files of before IR version 4 weights are inputs as well.
    weights = [value for value in proto.graph.input if opset < 20 and value.name != "x"]
    for value in weights:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        tensor = np.abs(RNG.standard_normal(shape)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(tensor, value.name))
    for tensor in proto.graph.initializer if opset < 20 else ():
        if tensor.name not in {value.name for value in proto.graph.input}:
            proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return ir.from_proto(proto)


def _run(model: ir.Model) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    feeds = {}
    for value in session.get_inputs():
        draw = rng.standard_normal([dim if isinstance(dim, int) else 2 for dim in value.shape])
        dtype = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}[value.type]
        feeds[value.name] = np.asarray(np.abs(draw) + 2 if dtype == np.int64 else draw, dtype)
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, feeds), strict=True))


def _by_output(model: ir.Model) -> dict[tuple[str | None, str], str | None]:
    return {(node.outputs[-1].name, node.op_type): node.name for node in model.graph}


@pytest.mark.parametrize("name", PASSES)
def test_the_docstring_is_a_manual(name):
    kind = PASSES[name]
    text = kind.__doc__ or ""
    assert re.fullmatch(r"[A-Z].*\.", text.splitlines()[0])
    positions = [text.find(f"\n    {section}\n        ") for section in SECTIONS]
    assert -1 not in positions
    assert positions == sorted(positions)
    assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", kind.name)


@pytest.mark.parametrize("key", GRAPHS)
@pytest.mark.parametrize("name", PASSES)
def test_the_graph_computes_the_same_and_a_second_run_changes_nothing(name, key):
    model = _graph(key)
    expected, names = _run(model), _by_output(model)
    before = ir.to_proto(model).SerializeToString()
    result = PASSES[name]()(model)
    assert result.model is model
    if not result.modified:
        assert ir.to_proto(model).SerializeToString() == before
    actual = _run(model)
    assert list(actual) == list(expected)
    for output, value in expected.items():
        np.testing.assert_allclose(actual[output], value, rtol=1e-5, atol=1e-6, err_msg=output)
    survivors = {where: node for where, node in _by_output(model).items() if where in names}
    assert survivors == {where: names[where] for where in survivors}
    assert not PASSES[name]()(model).modified
