from __future__ import annotations

import numpy as np
import pytest

from dsedge.passes import fold_constants


def test_weights_hidden_behind_slices_and_concats_are_folded(graph, check):
    arrays = {"w": np.arange(12, dtype=np.float32).reshape(4, 3)}
    arrays |= {name: np.int64([index]) for name, index in {"a": 0, "b": 2, "c": 4}.items()}
    body = "p = Slice(w, a, b)  q = Slice(w, b, c)  v = Concat<axis = 0>(q, p)  t = Transpose(v)  y = MatMul(x, t)"
    result = check(graph("float[2, 3] x", "float[2, 4] y", body, **arrays), "fold-constants")
    assert result.ops == {"MatMul": 1}
    expected = np.concatenate([arrays["w"][2:], arrays["w"][:2]]).T
    np.testing.assert_array_equal(result.model.graph.initializers["t"].const_value.numpy(), expected)


def test_shapes_that_are_known_are_folded(graph, check):
    body = "s = Shape<start = 1>(a)  n = Size(b)  f = Cast<to = 1>(n)  r = Reshape(a, s)  d = Div(r, f)  y = Neg(d)"
    model = graph("float[1, 4] a, float[2, N] x, float[2, 3] b", "float[4] y, float[2, N] z", body + " z = Relu(x)")
    assert check(model, "fold-constants").ops == {"Reshape": 1, "Div": 1, "Neg": 1, "Relu": 1}


def test_a_dynamic_shape_is_not_folded(graph, check):
    body = "s = Shape(x)  y = Cast<to = 1>(s)"
    check(graph("float[N, 4] x", "float[2] y", body), "fold-constants", changes=False)


def test_quantized_weights_keep_their_dequantization(graph, check):
    arrays = {"w": np.int8([[1, 2]]), "s": np.float32(0.5)}
    body = "d = DequantizeLinear(w, s)  y = Add(x, d)"
    check(graph("float[1, 2] x", "float[1, 2] y", body, **arrays), "fold-constants", changes=False)


def test_outputs_and_branches_stay_nodes(graph, check):
    body = (
        "y = Neg(w)  z = If(k) <then_branch = t () => (float[2] t) { t = Neg(w) }, "
        "else_branch = e () => (float[2] e) { e = Abs(w) }>  o = Relu(x)"
    )
    model = graph("float[2] x", "float[2] y, float[2] z, float[2] o", body, w=np.float32([1, 2]), k=np.bool_(True))
    assert check(model, "fold-constants", changes=False).ops["If"] == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("b = ConstantOfShape(s)", "4194304 MiB larger"),
        ("b = ConstantOfShape(l)", "100 MiB larger"),
        ("o = ConstantOfShape(m) b = Expand(o, s)", "MiB larger"),
        ("i = NonZero(m)  k = Cast<to = 1>(i)  b = ReduceSum<keepdims = 0>(k)", "not known before"),
        ("b = Gather(f, far)", "ONNX Runtime cannot compute it"),
    ],
)
def test_what_is_not_folded_is_noted(graph, body, reason):
    arrays = {"s": np.int64([1 << 20] * 2), "l": np.int64([5120] * 2), "m": np.int64([1, 1]), "far": np.int64(7)}
    model = graph("float x", "float[A, B] y", f"{body}  y = Add(x, b)", f=np.float32([1, 2]), **arrays)
    instance = fold_constants.FoldConstants()
    instance(model)
    assert any(reason in note for note in instance.notes)


def test_many_values_together_are_bounded(graph, monkeypatch):
    monkeypatch.setattr(fold_constants, "MAX_TOTAL_GROWTH", 6000)
    body = "a = ConstantOfShape(s)  b = ConstantOfShape(s)  c = Add(x, a)  y = Add(c, b)"
    instance = fold_constants.FoldConstants()
    model = graph("float[1000] x", "float[1000] y", body, s=np.int64([1000]))
    assert instance(model).modified
    assert [node.op_type for node in model.graph] == ["ConstantOfShape", "Add", "Add"]


@pytest.mark.parametrize(("index", "left"), [(1, 0), (-1, 0), ([2, 1], 0), (0, 1), ([0, 1], 1)])
def test_a_static_axis_of_a_shape_that_is_not(graph, check, index, left):
    body = "s = Shape(x)  g = Gather(s, i)  f = Cast<to = 1>(g)  y = Mul(x2, f)"
    outputs = "float[A] y" if np.ndim(index) else "float[2] y"
    model = graph("float[N, 3, 4] x, float[2] x2", outputs, body, i=np.int64(index))
    assert check(model, "fold-constants", changes=not left).ops["Gather"] == left


@pytest.mark.parametrize(("start", "end", "left"), [(-1, 9, 0), (1, 3, 0), (0, 2, 1)])
def test_a_static_part_of_a_shape_that_is_not(graph, check, start, end, left):
    bounds = {"b": np.int64([start]), "e": np.int64([end])}
    body = "s = Shape(x)  g = Slice(s, b, e)  f = Cast<to = 1>(g)  y = Neg(f)  z = Neg(y)"
    model = graph("float[N, 3, 4] x", "float[A] z", body, **bounds)
    assert check(model, "fold-constants", changes=not left).ops["Slice"] == left
