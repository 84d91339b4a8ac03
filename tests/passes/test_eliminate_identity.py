from __future__ import annotations

import numpy as np
import pytest

from dsedge.passes import discover


@pytest.mark.parametrize(
    "body",
    [
        "b = Identity(a)",
        "b = Dropout(a)",
        "b = Dropout(a, ratio, off)",
        "b = Pad(a, none)",
        "b = Cast<to = 1>(a)",
        "b = Transpose<perm = [0, 1]>(a)",
        "b = Concat<axis = 0>(a)",
        "b = Flatten(a)",
        "i = Identity(a)  b = Identity(i)",
    ],
)
def test_nodes_that_do_nothing_are_removed(graph, check, body):
    arrays = {"ratio": np.float32(0.5), "off": np.bool_(False), "none": np.int64([0, 0, 0, 0])}
    arrays = {name: array for name, array in arrays.items() if name in body}
    model = graph("float[2, 3] x", "float[2, 3] y", f"a = Relu(x)  {body}  y = Neg(b)", **arrays)
    assert check(model, "eliminate-identity").ops == {"Relu": 1, "Neg": 1}


@pytest.mark.parametrize(
    "body", ["b = Pad(a, one)", "b = Transpose<perm = [1, 0]>(a)", "b, m = Dropout(a)  k = Not(m)"]
)
def test_nodes_that_do_something_stay(graph, check, body):
    arrays = {"one": np.int64([0, 0, 1, 0])} if "one" in body else {}
    outputs = "float[A, B] y, bool[2, 3] k" if "k =" in body else "float[A, B] y"
    check(
        graph("float[2, 3] x", outputs, f"a = Relu(x)  {body}  y = Neg(b)", **arrays),
        "eliminate-identity",
        changes=False,
    )


def test_outputs_keep_their_names(graph, check):
    result = check(graph("float[2] x", "float[2] y", "a = Relu(x)  y = Identity(a)"), "eliminate-identity")
    assert result.names("Relu") == ["n_a"]


@pytest.mark.parametrize(
    ("outputs", "body"),
    [
        ("float[2] y", "y = Identity(x)"),
        ("float[2] y", "y = Identity(w)"),
        ("float[2] y, float[2] z", "y = Relu(x)  z = Identity(y)"),
        (
            "float[2] y",
            "a = Relu(x)  y = If(c) <then_branch = t () => (float[2] t) { t = Identity(a) },"
            " else_branch = e () => (float[2] e) { e = Neg(a) }>",
        ),
    ],
)
def test_a_node_that_names_an_output_stays_with_a_note(graph, check, outputs, body):
    model = graph("float[2] x, bool c", outputs, body, **({"w": np.float32([1, 2])} if "(w)" in body else {}))
    assert "stays: it gives the output" in check(model, "eliminate-identity", changes=False).notes[0]


def test_of_reshapes_in_a_row_the_last_one_counts(graph, check):
    body = "a = Reshape(x, s)  b = Flatten<axis = 0>(a)  y = Reshape(b, t)"
    shapes = {"s": np.int64([4, 3]), "t": np.int64([3, -1])}
    result = check(graph("float[2, 6] x", "float[3, 4] y", body, **shapes), "eliminate-identity")
    assert result.model.graph[2].inputs[0].name == "x"


def test_a_reshape_that_copies_an_axis_stays(graph, check):
    shapes = {"s": np.int64([4, 3]), "u": np.int64([0, 3, -1])}
    model = graph("float[2, 6] x", "float[4, 3, 1] y", "a = Reshape(x, s)  y = Reshape(a, u)", **shapes)
    check(model, "eliminate-identity", changes=False)


NEUTRAL = {
    "zero": np.float32(0),
    "one": np.float32([1]),
    "ones": np.ones((2, 3), np.float32),
    "high": np.ones((1, 1, 1), np.float32),
    "wide": np.ones((4, 1, 1), np.float32),
    "yes": np.bool_([[True]]),
    "no": np.zeros((2, 3), np.bool_),
    "some": np.bool_([True, False, True]),
    "first": np.int64([0]),
    "last": np.int64([9]),
    "axis": np.int64([1]),
    "minus": np.int64([-1]),
    "front": np.int64([-9]),
    "once": np.int64([1, 1]),
    "size": np.int64([2, 3]),
    "volume": np.int64([2, 2, 3]),
    "scale": np.float32([1, 1]),
    "more": np.float32([1, 1.1]),
}


def _neutral(graph, body, outputs="float[A, B] y"):
    used = {k: a for k, a in NEUTRAL.items() if any(f"{start}{k}{end}" in body for start in " (" for end in "),")}
    return graph("float[2, 3] x", outputs, f"a = Relu(x)  {body}  y = Neg(b)", **used)


@pytest.mark.parametrize(
    "body",
    [
        "b = Add(a, zero)",
        "b = Add(zero, a)",
        "b = Sub(a, zero)",
        "b = Mul(a, one)",
        "b = Mul(ones, a)",
        "b = Div(a, one)",
        "b = Pow(a, one)",
        "b = Sum(a)",
        "b = Tile(a, once)",
        "b = Slice(a, first, last)",
        "b = Expand(a, once)",
        "b = Resize(a, , scale)",
        'b = Resize<mode = "linear">(a, , , size)',
        "b = Where(yes, a, x)",
        "b = Where(no, x, a)",
        "s = Split<axis = 0, num_outputs = 1>(a)  b = Identity(s)",
        "u = Unsqueeze(a, axis)  b = Squeeze(u, axis)",
        "u = Unsqueeze(a, axis)  f = Flatten<axis = 0>(u)  b = Reshape(f, size)",
    ],
)
def test_neutral_operations_are_removed(graph, check, body):
    result = check(_neutral(graph, body), "eliminate-identity")
    discover()["clean-up"]()(result.model)
    assert result.ops == {"Relu": 1, "Neg": 1}


@pytest.mark.parametrize(
    "body",
    [
        "b = Add(a, one)",
        "b = Sub(zero, a)",
        "b = Div(one, a)",
        "b = Mul(a, high)",
        "b = Mul(a, wide)",
        "b = Where(some, a, x)",
        "b = Slice(a, minus, front, axis, minus)",
        "b = Resize(a, , more)",
        "b = Expand(a, volume)",
    ],
)
def test_operations_that_are_only_near_stay(graph, check, body):
    outputs = "float[A, B, C] y" if any(word in body for word in ("high", "wide", "volume")) else "float[A, B] y"
    check(_neutral(graph, body, outputs), "eliminate-identity", changes=False)


def test_a_transposition_of_axes_of_length_one_before_a_reshape_goes(graph, check):
    body = "t = Transpose<perm = [0, 2, 3, 1]>(x)  y = Reshape(t, s)"
    result = check(graph("float[2, 3, 1, 1] x", "float[2, 3] y", body, s=np.int64([-1, 3])), "eliminate-identity")
    assert result.model.graph[1].inputs[0].name == "x"
