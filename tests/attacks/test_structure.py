"""Graphs that are no graphs: inputs, outputs, edges, operators, opsets, recursion."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from attacks.hostile import BOARD, CALIBRATION, MODEL, Ended, graph, refused, run_apart, save, small
from graphs import Net
from onnx import TensorProto, helper

Attempt = Callable[..., Ended]
Change = Callable[[onnx.ModelProto], object]


def input_type(proto: onnx.ModelProto, kind: int) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = kind


def untyped(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].ClearField("type")


def input_axis(proto: onnx.ModelProto, length: int) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = length


def output(proto: onnx.ModelProto, name: str) -> None:
    proto.graph.output[0].name = name


def edge(proto: onnx.ModelProto, node: int, source: str) -> None:
    proto.graph.node[node].input[0] = source


def written(proto: onnx.ModelProto, node: int, name: str) -> None:
    proto.graph.node[node].output[0] = name


def operator(proto: onnx.ModelProto, node: int, op_type: str, domain: str = "") -> None:
    proto.graph.node[node].op_type, proto.graph.node[node].domain = op_type, domain


def opset(proto: onnx.ModelProto, version: int) -> None:
    proto.opset_import[0].version = version


def attribute(proto: onnx.ModelProto, **fields: int) -> None:
    for name, value in fields.items():
        setattr(proto.graph.node[0].attribute[0], name, value)


def transpose(proto: onnx.ModelProto, perm: list[int]) -> None:
    proto.graph.node[0].CopyFrom(helper.make_node("Transpose", ["x"], ["conv_0"], name="Transpose_0", perm=perm))


REFUSED: dict[str, tuple[str, str, Change]] = {
    "zero-size input": ("DS106", "length 0", lambda p: input_axis(p, 0)),
    "bfloat16 input": ("DS106", "bfloat16", lambda p: input_type(p, TensorProto.BFLOAT16)),
    "float8 input": ("DS106", "float8", lambda p: input_type(p, TensorProto.FLOAT8E4M3FN)),
    "int4 input": ("DS106", "int4", lambda p: input_type(p, TensorProto.INT4)),
    "input of no type": ("DS106", "'x'", lambda p: input_type(p, 0)),
    "input of an unknown type": ("DS102", "", lambda p: input_type(p, 77)),
    "complex input": ("DS106", "complex64", lambda p: input_type(p, TensorProto.COMPLEX64)),
    "string input": ("DS201", "string", lambda p: input_type(p, TensorProto.STRING)),
    "untyped input": ("DS106", "'x'", untyped),
    "two outputs of one name": ("DS106", "declared twice", lambda p: p.graph.output.append(p.graph.output[0])),
    "an output that nothing computes": ("DS106", "'ghost'", lambda p: output(p, "ghost")),
    "an output without a name": ("DS106", "''", lambda p: output(p, "")),
    "no outputs": ("DS106", "no outputs", lambda p: p.graph.ClearField("output")),
    "no nodes": ("DS102", "no graph", lambda p: p.graph.ClearField("node")),
    "a cycle": ("DS102", "cycle", lambda p: edge(p, 0, p.graph.node[-1].output[0])),
    "a node that reads itself": ("DS102", "cycle", lambda p: edge(p, 1, p.graph.node[1].output[0])),
    "two writers": ("DS102", "two nodes write 'conv_0'", lambda p: written(p, 1, "conv_0")),
    "a node writes an input": ("DS102", "", lambda p: written(p, 1, "x")),
    "a node writes a weight": ("DS102", "", lambda p: written(p, 1, "const_0")),
    "a value from nowhere": ("DS201", "'nowhere'", lambda p: edge(p, 1, "nowhere")),
    "no inputs": ("DS201", "'x'", lambda p: p.graph.ClearField("input")),
    "two inputs of one name": ("DS201", "x", lambda p: p.graph.input.append(p.graph.input[0])),
    "unknown operator": ("DS201", "Fnord 'Relu_1'", lambda p: operator(p, 1, "Fnord")),
    "no operator": ("DS201", "", lambda p: operator(p, 1, "")),
    "unknown domain": ("DS201", "evil.Relu 'Relu_1'", lambda p: operator(p, 1, "Relu", "evil")),
    "no weight": ("DS201", "Conv", lambda p: p.graph.node[0].input.__setitem__(1, "")),
    "no output": ("DS201", "", lambda p: p.graph.node[0].ClearField("output")),
    "opset 3": ("DS108", "opset 3", lambda p: opset(p, 3)),
    "opset 999": ("DS108", "opset 999", lambda p: opset(p, 999)),
    "opset -1": ("DS108", "opset -1", lambda p: opset(p, -1)),
    "opset 2**40": ("DS108", str(2**40), lambda p: opset(p, 2**40)),
    "no opset": ("DS102", "no opset", lambda p: p.ClearField("opset_import")),
    "a format from the future": ("DS108", "version 99", lambda p: setattr(p, "ir_version", 99)),
    "an attribute without a type": ("DS201", "", lambda p: attribute(p, type=0)),
    "a permutation of axes that there are not": ("DS201", "Transpose", lambda p: transpose(p, [0, 7, 1, 2])),
    "an attribute of another type": ("DS201", "Conv", lambda p: attribute(p, type=onnx.AttributeProto.TENSOR)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(attempt: Attempt, tmp_path: Path, name: str) -> None:
    code, words, change = REFUSED[name]
    proto = small()
    change(proto)
    refused(attempt(model=save(proto, tmp_path / "m.onnx"), calib="random"), code, words)


@pytest.mark.parametrize("length", [2**61, 2**40, 2**36])
@pytest.mark.parametrize("axis", [0, 2])
def test_an_axis_as_long_as_the_memory(attempt: Attempt, tmp_path: Path, axis: int, length: int) -> None:
    proto = small()
    proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = length
    np.savez(tmp_path / "c.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    for calib in ("random", tmp_path / "c.npz"):
        ended = attempt(model=save(proto, tmp_path / "m.onnx"), calib=calib)
        refused(ended, ended.err[6:11], "x")
        assert ended.err[6:11] in ("DS106", "DS122"), ended


@pytest.mark.parametrize("field", [b"Relu", b"gemm_4", b"const_0", b"pads"])
def test_text_that_is_not_utf8(attempt: Attempt, tmp_path: Path, field: bytes) -> None:
    content = small().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content.replace(field, field[:-2] + b"\xff\xfe"))
    refused(attempt(model=tmp_path / "m.onnx", calib="random"), "DS102")


def test_a_convolution_of_no_groups(attempt: Attempt, tmp_path: Path) -> None:
    proto = small()
    proto.graph.node[0].attribute.append(helper.make_attribute("group", 0))
    refused(attempt(model=save(proto, tmp_path / "m.onnx"), calib="random"), "DS122", "group")


def test_all_unsupported_operators_are_listed(cli: Callable[..., Ended], attempt: Attempt, tmp_path: Path) -> None:
    proto = small()
    for node, (op_type, domain) in enumerate([("Conv", "evil"), ("Fnord", ""), ("Blip", "")]):
        operator(proto, node, op_type, domain)
    model = save(proto, tmp_path / "m.onnx")
    names = ("evil.Conv", "'Conv_0'", "Fnord", "'Relu_1'", "Blip", "'GlobalAveragePool_2'")
    refused(attempt(model=model, calib="random"), "DS201", "3 nodes", *names)
    refused(cli("check", model, "-t", BOARD), "DS201", *(name.strip("'") for name in names))


def test_a_quantized_model(attempt: Attempt, compiled: Path) -> None:
    ended = attempt(model=compiled / "model.onnx")
    assert ended.code in (0, 1)
    assert "note: the model came quantized: scales and placement are its own" in ended.out


def test_nothing_to_quantize_ships_the_float_model(attempt: Attempt, tmp_path: Path) -> None:
    net = Net(x=("N", 8))
    ended = attempt(model=save(net.proto(net.op("Erf", net.op("Relu", "x"))), tmp_path / "m.onnx"), calib="random")
    assert ended.code == 1
    assert "FAIL  int8" in ended.out and "float" in ended.out
    assert (tmp_path / "out" / "bundle" / "manifest.json").is_file()


def test_an_input_without_axes(attempt: Attempt, tmp_path: Path) -> None:
    net = Net(x=())
    model = save(net.proto(net.op("MatMul", net.op("Mul", "x", net.weight(4, 4)), net.weight(4, 4))), tmp_path / "m")
    np.savez(tmp_path / "c.npz", x=np.ones(5, np.float32))
    np.savez(tmp_path / "wrong.npz", x=np.float32(1))
    refused(attempt(model=model, calib=tmp_path / "wrong.npz"), "DS122", "0-d")
    assert attempt(model=model, calib=tmp_path / "c.npz").code in (0, 1)


def nested(depth: int) -> bytes:
    """An If in an If in an If, written by hand: the protobuf library itself refuses to write it."""

    def field(number: int, content: bytes) -> bytes:
        length, size = len(content), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    inner = field(2, b"leaf")
    for i in range(depth):
        attribute = field(1, b"then_branch") + field(6, inner) + b"\xa0\x01\x05"
        node = field(4, b"If") + field(5, attribute) + field(2, b"o%d" % i)
        inner = field(1, node) + field(2, b"g") + field(12, field(1, b"o%d" % i))
    return b"\x08\x0a" + field(8, b"\x10\x14") + field(7, inner)


@pytest.mark.parametrize(("depth", "code"), [(30, "DS201"), (33, "DS201"), (60, "DS102"), (5000, "DS102")])
def test_deeply_nested_bodies(tmp_path: Path, depth: int, code: str) -> None:
    (tmp_path / "m.onnx").write_bytes(nested(depth))
    refused(run_apart("check", tmp_path / "m.onnx", "-t", BOARD), code)


def in_an_if(node: onnx.NodeProto) -> onnx.NodeProto:
    """The same, in both branches of an If."""
    out = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
    branch = helper.make_graph([node], "branch", [], [out])
    return helper.make_node("If", ["c"], list(node.output), then_branch=branch, else_branch=branch)


def calls(count: int, *, twice: bool = False, endless: bool = False, hidden: bool = False) -> onnx.ModelProto:
    """Functions that call each other: f1 calls f0, f2 calls f1, and so on; `hidden` in the body of an If."""
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    wrap = in_an_if if hidden else lambda node: node
    functions = []
    for i in range(count):
        nodes = [wrap(helper.make_node(f"f{(i - 1) % count}", ["a", "c"], ["b"], domain="f"))]
        if i == 0 and not endless:
            nodes = [helper.make_node("Relu", ["a"], ["b"])]
        elif twice:
            nodes = [wrap(helper.make_node(f"f{i - 1}", [a, "c"], [b], domain="f")) for a, b in ("at", "tb")]
        functions.append(helper.make_function("f", f"f{i}", ["a", "c"], ["b"], nodes, opsets))
    node = wrap(helper.make_node(f"f{count - 1}", ["x", "c"], ["y"], domain="f"))
    return graph([node], "y", functions, x=(TensorProto.FLOAT, [1, 8]), c=(TensorProto.BOOL, []))


ENDLESS: dict[str, dict[str, Any]] = {
    "calls itself": {"count": 1, "endless": True},
    "calls in a circle": {"count": 3, "endless": True},
    "calls in a circle of bodies": {"count": 3, "endless": True, "hidden": True},
    "a billion laughs": {"count": 40, "twice": True},
    "a billion laughs in bodies": {"count": 40, "twice": True, "hidden": True},
    "a chain of 3000": {"count": 3000},
}


@pytest.mark.parametrize("verb", ["check", "inspect"])
@pytest.mark.parametrize("name", ENDLESS)
def test_functions_that_never_end(tmp_path: Path, verb: str, name: str) -> None:
    model = save(calls(**ENDLESS[name]), tmp_path / "m.onnx")
    target = ("-t", BOARD) if verb == "check" else ()
    refused(run_apart(verb, model, *target, timeout=20), "DS102", "function")


def test_functions_as_exporters_write_them(attempt: Attempt, tmp_path: Path) -> None:
    for model in (calls(12), calls(6, twice=True, hidden=True)):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert attempt(model=save(model, tmp_path / "m.onnx"), calib="random").code == 1


def test_a_long_chain(cli: Callable[..., Ended], tmp_path: Path) -> None:
    names = [f"v{i}" for i in range(3001)]
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)]
    model = save(graph(nodes, names[-1], v0=(TensorProto.FLOAT, [1, 8])), tmp_path / "m.onnx")
    ended = cli("inspect", model)
    assert (ended.code, ended.err) == (0, "")
    assert "3,000" in ended.out


def test_the_model_of_the_other_tests_is_fine(attempt: Attempt) -> None:
    ended = attempt(model=MODEL, calib=CALIBRATION)
    assert (ended.code, ended.err) == (0, "")
