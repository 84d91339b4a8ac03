from __future__ import annotations

import numpy as np
import pytest


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
