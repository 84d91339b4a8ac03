"""Small files of every form that real ones have: each compiles and verifies, or is refused with the right code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import dsedge
from dsedge.bundle import Bundle
from dsedge.errors import DsedgeError
from dsedge.verify import verify_bundle

FLOAT, HALF, INT64, UINT8, BOOL, STRING, BFLOAT16 = (
    getattr(TensorProto, kind) for kind in ("FLOAT", "FLOAT16", "INT64", "UINT8", "BOOL", "STRING", "BFLOAT16")
)
RNG = np.random.default_rng(0)
NODE, VALUE = helper.make_node, helper.make_tensor_value_info
WEIGHT = RNG.standard_normal((8, 8)).astype(np.float32)
X = [VALUE("x", FLOAT, ["N", 8])]
MATMUL = NODE("MatMul", ["x", "w"], ["y"])


def output(name: str = "y", kind: int = FLOAT) -> onnx.ValueInfoProto:
    return VALUE(name, kind, None)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    *,
    opset: int = 17,
    domains: dict[str, int] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
    **constants: Any,
) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    opsets = [helper.make_opsetid(d, v) for d, v in {"": opset, **(domains or {})}.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=opsets, functions=functions or [], ir_version=8)


def convolutions(*nodes: onnx.NodeProto, outputs: list[onnx.ValueInfoProto], **constants: Any) -> onnx.ModelProto:
    """Two convolutions, [N, 3, 16, 16] to [N, 16, 16, 16] in `h`, and what comes behind them."""
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal(s).astype(np.float32) * 0.2 for s in ((24, 3, 3, 3), (16, 24, 3, 3)))
    both = [
        NODE("Conv", ["x", "c0"], ["a"], pads=[1] * 4),
        NODE("Relu", ["a"], ["b"]),
        NODE("Conv", ["b", "c1"], ["h"], pads=[1] * 4),
    ]
    return model([*both, *nodes], [VALUE("x", FLOAT, ["N", 3, 16, 16])], outputs, c0=first, c1=second, **constants)


def detector() -> onnx.ModelProto:
    """Boxes and scores of every position, a suppression, and the boxes that it left."""
    return convolutions(
        NODE("Reshape", ["h", "flat"], ["r"]),
        NODE("Split", ["r", "parts"], ["box", "raw"], axis=1),
        NODE("Transpose", ["box"], ["boxes"], perm=[0, 2, 1]),
        NODE("Sigmoid", ["raw"], ["scores"]),
        NODE("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["kept"]),
        NODE("Gather", ["kept", "two"], ["index"], axis=1),
        NODE("Gather", ["boxes", "index"], ["y"], axis=1),
        outputs=[output(), output("kept", INT64)],
        flat=np.array([0, 16, -1]),
        parts=np.array([4, 12]),
        most=np.array([20]),
        overlap=np.array([0.5], np.float32),
        least=np.array([0.6], np.float32),
        two=np.array(2),
    )


def sequence_output() -> onnx.ModelProto:
    out = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    return convolutions(NODE("SplitToSequence", ["h", "four"], ["y"], axis=1), outputs=[out], four=np.array(4))


def sequence_inside() -> onnx.ModelProto:
    nodes = [
        NODE("SequenceConstruct", ["x", "w"], ["s"]),
        NODE("ConcatFromSequence", ["s"], ["y"], axis=0),
    ]
    return model(nodes, X, [output()], w=WEIGHT)


def map_output() -> onnx.ModelProto:
    """What scikit-learn's classifiers are exported as."""
    nodes = [
        NODE("Softmax", ["x"], ["p"]),
        NODE("ZipMap", ["p"], ["y"], domain="ai.onnx.ml", classlabels_int64s=range(8)),
    ]
    proto = model(nodes, X, [output()], domains={"ai.onnx.ml": 1})
    kind = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    proto.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(kind))
    return proto


def half(*, opset: int = 17) -> onnx.ModelProto:
    """A chain in float16, whose own rounding adds up to more than what is allowed to a pass."""
    names = [f"h{i}" for i in range(13)]
    nodes = [NODE("MatMul", [a, "w"], [b]) for a, b in zip(["x", *names], [*names, "y"], strict=False)]
    orthogonal = np.linalg.qr(np.random.default_rng(1).standard_normal((64, 64)))[0].astype(np.float16)
    return model(nodes, [VALUE("x", HALF, ["N", 64])], [output("y", HALF)], opset=opset, w=orthogonal)


def function(opset: int, op: str = "MatMul") -> onnx.ModelProto:
    body = [NODE("MatMul", ["a", "b"], ["t"]), NODE(op, ["t"], ["o"])]
    local = helper.make_function("local", "F", ["a", "b"], ["o"], body, [helper.make_opsetid("", opset)])
    call = NODE("F", ["x", "w"], ["y"], domain="local")
    return model([call], X, [output()], domains={"local": 1}, functions=[local], w=WEIGHT)


def recurrent() -> onnx.ModelProto:
    """Every axis is open, also those that weights and a state fix."""
    inputs = [VALUE("x", FLOAT, ["a", "b", "c"]), VALUE("state", FLOAT, ["d", "e", "f"])]
    node = NODE("GRU", ["x", "w", "r", "", "", "state"], ["", "y"], hidden_size=4)
    weights = {"w": RNG.standard_normal((1, 12, 3)), "r": RNG.standard_normal((1, 12, 4))}
    return model([node], inputs, [output()], **{name: array.astype(np.float32) for name, array in weights.items()})


def open_axes() -> onnx.ModelProto:
    proto = convolutions(outputs=[output("h")])
    proto.graph.input[0].CopyFrom(VALUE("x", FLOAT, ["N", "C", "H", "W"]))
    return proto


def branches() -> onnx.ModelProto:
    """Branches that read the outer graph."""
    then = helper.make_graph([NODE("MatMul", ["x", "w"], ["t"])], "then", [], [output("t")])
    other = helper.make_graph([NODE("Mul", ["x", "two"], ["e"])], "else", [], [output("e")])
    nodes = [
        NODE("ReduceSum", ["x"], ["s"], keepdims=0),
        NODE("Greater", ["s", "zero"], ["c"]),
        NODE("If", ["c"], ["m"], then_branch=then, else_branch=other),
        NODE("MatMul", ["m", "w"], ["y"]),
    ]
    return model(nodes, X, [output()], w=WEIGHT, two=np.float32(2), zero=np.float32(0))


NONZERO = [NODE("Greater", ["h", "least"], ["g"]), NODE("NonZero", ["g"], ["y"])]
COMPILE: dict[str, Callable[[], onnx.ModelProto]] = {
    "boxes whose number depends on the data": detector,
    "positions whose number depends on the data": lambda: convolutions(
        *NONZERO, outputs=[output("y", INT64)], least=np.float32(0.5)
    ),
    "class ids of every pixel": lambda: convolutions(
        NODE("ArgMax", ["h"], ["y"], axis=1), outputs=[output("y", INT64)]
    ),
    "a sequence as output": sequence_output,
    "a sequence inside": sequence_inside,
    "maps as output": map_output,
    "strings in and out": lambda: model(
        [NODE("StringNormalizer", ["s"], ["y"])], [VALUE("s", STRING, ["N"])], [output("y", STRING)]
    ),
    "half precision": half,
    "half precision, old": lambda: half(opset=11),
    "scalars": lambda: model(
        [NODE("Add", ["a", "b"], ["y"])], [VALUE("a", FLOAT, []), VALUE("b", FLOAT, [])], [VALUE("y", FLOAT, [])]
    ),
    "no inputs": lambda: model([NODE("Relu", ["w"], ["y"])], [], [output()], w=WEIGHT),
    "an input that is an output": lambda: model([MATMUL], X, [output(), *X], w=WEIGHT),
    "a weight that is an output": lambda: model([MATMUL], X, [output(), output("w")], w=WEIGHT),
    "an input that nothing reads": lambda: model([MATMUL], [*X, VALUE("u", FLOAT, ["N", 3])], [output()], w=WEIGHT),
    "names of every kind": lambda: model(
        [NODE("MatMul", ["../x:0", "w"], ["y;\n<b>"], name="n/ä")],
        [VALUE("../x:0", FLOAT, ["N", 8])],
        [output("y;\n<b>")],
        w=WEIGHT,
    ),
    "an empty constant": lambda: model(
        [NODE("Concat", ["x", "e"], ["y"], axis=1)], X, [output()], e=np.zeros((1, 0), np.float32)
    ),
    "batches of two lengths": lambda: model(
        [NODE("Concat", ["x", "z"], ["y"], axis=0)], [VALUE("x", FLOAT, [2, 8]), VALUE("z", FLOAT, [3, 8])], [output()]
    ),
    "a function of another opset that means the same": lambda: function(13, "Elu"),
    "every axis open": open_axes,
    "every axis of a recurrent layer open": recurrent,
    "branches": branches,
    "a seeded random number": lambda: model(
        [NODE("RandomNormalLike", ["x"], ["r"], seed=1.0), NODE("Add", ["x", "r"], ["y"])], X, [output()]
    ),
    "a shape that is a lie": lambda: model([MATMUL], X, [VALUE("y", FLOAT, ["N", 4])], w=WEIGHT),
    "a mask of minus infinity": lambda: model(
        [NODE("Where", ["m", "x", "never"], ["s"]), NODE("Softmax", ["s"], ["y"])],
        [*X, VALUE("m", BOOL, ["N", 8])],
        [output()],
        never=np.float32(-np.inf),
    ),
}
REFUSE: dict[str, tuple[str, Callable[[], onnx.ModelProto]]] = {
    "random numbers": (
        "DS110",
        lambda: model([NODE("RandomNormalLike", ["x"], ["r"]), NODE("Add", ["x", "r"], ["y"])], X, [output()]),
    ),
    "a function of another opset": ("DS108", lambda: function(13, "Relu")),
    "a newer opset than the runtime's": ("DS108", lambda: model([MATMUL], X, [output()], opset=26, w=WEIGHT)),
    "bfloat16 outputs": (
        "DS106",
        lambda: model([NODE("Cast", ["x"], ["y"], to=BFLOAT16)], X, [output("y", BFLOAT16)]),
    ),
    "a sequence as input": (
        "DS106",
        lambda: model(
            [NODE("SequenceAt", ["s", "i"], ["y"])],
            [helper.make_tensor_sequence_value_info("s", FLOAT, ["N"])],
            [output()],
            i=np.array(0),
        ),
    ),
    "samples that do not fit": (
        "DS122",
        lambda: model([NODE("Div", ["a", "a"], ["y"])], [VALUE("a", INT64, [64])], [output("y", INT64)]),
    ),
    "a Scan with a batch axis": ("DS108", lambda: batched_scan()),
    "an unknown operator": ("DS201", lambda: model([NODE("Foo", ["x"], ["y"])], X, [output()])),
    "an attribute out of range": ("DS201", lambda: model([NODE("Softmax", ["x"], ["y"], axis=7)], X, [output()])),
    "an output of another type": ("DS201", lambda: model([MATMUL], X, [output("y", INT64)], w=WEIGHT)),
}


def batched_scan() -> onnx.ModelProto:
    inner = [VALUE("s", FLOAT, [2]), VALUE("v", FLOAT, [2])]
    body = helper.make_graph([NODE("Add", ["s", "v"], ["t"])], "body", inner, [VALUE("t", FLOAT, [2])])
    node = NODE("Scan", ["", "init", "x"], ["y"], num_scan_inputs=1, body=body)
    inputs = [VALUE("init", FLOAT, [1, 2]), VALUE("x", FLOAT, [1, 3, 2])]
    return model([node], inputs, [VALUE("y", FLOAT, [1, 2])], opset=8)


def compiled(proto: onnx.ModelProto, folder: Path) -> Bundle:
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return dsedge.compile(path, target="raspberry-pi-5", calibration="random", output=folder / "bundle")


@pytest.mark.parametrize("name", COMPILE)
def test_it_compiles_and_verifies(name: str, tmp_path: Path) -> None:
    bundle = compiled(COMPILE[name](), tmp_path)
    found = verify_bundle(bundle)
    assert all(ratio is None or ratio > 0 for ratio in found["sqnr_db"])
    near = bundle.manifest.fidelity
    assert near is not None and (near.sqnr_db is None or near.sqnr_db > 0)
    assert near.max_abs < 1e30


@pytest.mark.parametrize("name", REFUSE)
def test_it_is_refused(name: str, tmp_path: Path) -> None:
    code, make = REFUSE[name]
    with pytest.raises(DsedgeError) as caught:
        compiled(make(), tmp_path)
    assert (caught.value.code, caught.value.exit_code) == (code, 2), str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "bundle").exists()


def test_lengths_that_depend_on_the_data_are_told(tmp_path: Path) -> None:
    bundle = compiled(COMPILE["positions whose number depends on the data"](), tmp_path)
    near = bundle.manifest.fidelity
    assert near is not None and near.same_lengths < 1.0
    assert near.top1_agreement is None
    assert any("length" in note for note in bundle.manifest.notes)
