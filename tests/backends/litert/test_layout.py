"""Channels last inside: how many transpositions a file has, for the shapes that networks take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from dsedge.backends.litert.contract import contract
from dsedge.data import Batch
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.insert import insert
from dsedge.target import load_target
from tests.backends.litert.harness import check_float, feeds_of, inferred, run


class Net:
    """A small model under construction; every method returns the name of what it adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def constant(self, array: np.ndarray) -> str:
        """An initializer."""
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, op: str, *inputs: str | Sequence[int], outputs: int = 1, **attributes: Any) -> Any:
        """A node; sequences of integers are constants. One name, or as many as it has outputs."""
        names = [i if isinstance(i, str) else self.constant(np.array(i, np.int64)) for i in inputs]
        results = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, names, results, name=f"n{len(self.nodes)}", **attributes))
        return results[0] if outputs == 1 else results

    def conv(self, x: str, inputs: int, outputs: int, kernel: int = 3, *, space: int = 2, **attributes: Any) -> str:
        """A convolution that keeps the size, with Relu behind it."""
        weights = self.rng.normal(0, 0.3, (outputs, inputs, *[kernel] * space)).astype(np.float32)
        pads = attributes.pop("pads", [kernel // 2] * (2 * space))
        bias = self.constant(self.rng.normal(0, 0.1, outputs).astype(np.float32))
        return str(self.add("Relu", self.add("Conv", x, self.constant(weights), bias, pads=pads, **attributes)))

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        """A matrix product and a bias."""
        weights = self.constant(self.rng.normal(0, 0.3, (inputs, outputs)).astype(np.float32))
        return str(self.add("Add", self.add("MatMul", x, weights), self.constant(np.ones(outputs, np.float32))))

    def model(self, shape: Sequence[int], results: Sequence[str]) -> onnx.ModelProto:
        """The model that computes `results` from the input "x"."""
        fed = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
        infos = [helper.make_empty_tensor_value_info(name) for name in results]
        graph = helper.make_graph(self.nodes, "net", fed, infos, self.constants)
        return inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


_HEADS = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])


def _plain(n: Net, x: str) -> str:
    x = n.add("MaxPool", n.conv(x, 3, 8), kernel_shape=[2, 2], strides=[2, 2])
    return n.conv(x, 8, 16, strides=[2, 2])


def _residual(n: Net, x: str) -> str:
    x = n.conv(x, 3, 8)
    return str(n.add("Relu", n.add("Add", n.conv(n.conv(x, 8, 8), 8, 8), x)))


def _branches(n: Net, x: str) -> str:
    x = n.conv(x, 3, 8)
    pooled = n.add("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return n.conv(n.add("Concat", n.conv(x, 8, 4), n.conv(x, 8, 6, 1), pooled, axis=1), 18, 8)


def _split_branches(n: Net, x: str) -> str:
    left, right = n.add("Split", n.conv(x, 3, 8), outputs=2, axis=1, num_outputs=2)
    return n.conv(n.add("Concat", left, n.conv(right, 4, 4), axis=1), 8, 8)


def _squeeze_excite(n: Net, x: str) -> str:
    x = n.conv(x, 3, 8)
    squeezed = n.conv(n.add("GlobalAveragePool", x), 8, 4, 1)
    return n.conv(n.add("Mul", x, n.add("Sigmoid", n.conv(squeezed, 4, 8, 1))), 8, 8)


def _squeeze_excite_linear(n: Net, x: str) -> str:
    x = n.conv(x, 3, 8)
    squeezed = n.add("Flatten", n.add("GlobalAveragePool", x))
    scale = n.add("Sigmoid", n.linear(n.add("Relu", n.linear(squeezed, 8, 4)), 4, 8))
    return n.conv(n.add("Mul", x, n.add("Reshape", scale, [1, 8, 1, 1])), 8, 8)


def _shuffle(n: Net, x: str) -> str:
    x = n.add("Reshape", n.conv(x, 3, 8), [1, 2, 4, 16, 16])
    x = n.add("Transpose", x, perm=[0, 2, 1, 3, 4])
    return n.conv(n.add("Reshape", x, [1, 8, 16, 16]), 8, 8)


def _pixel_shuffle(n: Net, x: str) -> str:
    x = n.add("Reshape", n.conv(x, 3, 12), [1, 3, 2, 2, 16, 16])
    return n.conv(n.add("Reshape", n.add("Transpose", x, perm=[0, 1, 4, 2, 5, 3]), [1, 3, 32, 32]), 3, 4)


def _pixel_unshuffle(n: Net, x: str) -> str:
    x = n.add("Reshape", n.conv(x, 3, 4), [1, 4, 8, 2, 8, 2])
    return n.conv(n.add("Reshape", n.add("Transpose", x, perm=[0, 1, 3, 5, 2, 4]), [1, 16, 8, 8]), 16, 8)


def _u_net(n: Net, x: str) -> str:
    skip = n.conv(x, 3, 8)
    x = n.conv(skip, 8, 12, strides=[2, 2])
    weights = n.constant(n.rng.normal(0, 0.3, (12, 8, 2, 2)).astype(np.float32))
    return n.conv(n.add("Concat", n.add("ConvTranspose", x, weights, strides=[2, 2]), skip, axis=1), 16, 8)


def _focus(n: Net, x: str) -> str:
    parts = [n.add("Slice", x, [i, j], [2**31, 2**31], [2, 3], [2, 2]) for i in (0, 1) for j in (0, 1)]
    return n.conv(n.add("Concat", *parts, axis=1), 12, 8)


def _padded(n: Net, x: str) -> str:
    return n.conv(n.add("Pad", n.conv(x, 3, 8), [0, 0, 1, 2, 0, 0, 2, 1]), 8, 8, 4)


def _anchors(n: Net, x: str) -> str:
    x = n.add("Reshape", n.conv(x, 3, 21), [1, 3, 7, 16, 16])
    return str(n.add("Reshape", n.add("Sigmoid", n.add("Transpose", x, perm=[0, 1, 3, 4, 2])), [1, 768, 7]))


def _boxes(n: Net, x: str) -> str:
    heads = []
    for stride in (2, 4):
        x = n.conv(x, 3 if stride == 2 else 8, 8, strides=[2, 2])
        boxes = n.add("Transpose", n.conv(x, 8, 12), perm=[0, 2, 3, 1])
        heads.append(n.add("Reshape", boxes, [1, -1, 4]))
    return str(n.add("Concat", *heads, axis=1))


def _patches(n: Net, x: str) -> str:
    x = n.conv(x, 3, 8, 4, strides=[4, 4], pads=[0] * 4)
    x = n.add("Transpose", n.add("Reshape", x, [1, 8, 16]), perm=[0, 2, 1])
    first = n.constant(n.rng.normal(0, 1, (1, 1, 8)).astype(np.float32))
    x = n.linear(n.add("Concat", first, x, axis=1), 8, 8)
    return n.linear(n.add("Gather", x, n.constant(np.array(0, np.int64)), axis=1), 8, 4)


def _unpatched(n: Net, x: str) -> str:
    x = n.conv(x, 3, 8)
    tokens = n.linear(n.add("Transpose", n.add("Reshape", x, [1, 8, 256]), perm=[0, 2, 1]), 8, 8)
    return n.conv(n.add("Reshape", n.add("Transpose", tokens, perm=[0, 2, 1]), [1, 8, 16, 16]), 8, 8)


def _attention(n: Net, x: str) -> str:
    x = n.add("Reshape", n.conv(x, 3, 8), [1, 8, 256])
    x = n.add("Transpose", x, perm=[0, 2, 1])
    heads = [n.add("Reshape", n.linear(x, 8, 8), [1, 256, 2, 4]) for _ in range(3)]
    query, key, value = (n.add("Transpose", h, perm=p) for h, p in zip(heads, _HEADS, strict=True))
    x = n.add("MatMul", n.add("Softmax", n.add("MatMul", query, key)), value)
    return n.linear(n.add("Reshape", n.add("Transpose", x, perm=[0, 2, 1, 3]), [1, 256, 8]), 8, 4)


def _windows(n: Net, x: str) -> str:
    x = n.add("Reshape", n.add("Transpose", n.conv(x, 3, 8), perm=[0, 2, 3, 1]), [1, 4, 4, 4, 4, 8])
    x = n.linear(n.add("Reshape", n.add("Transpose", x, perm=[0, 1, 3, 2, 4, 5]), [16, 16, 8]), 8, 8)
    x = n.add("Transpose", n.add("Reshape", x, [1, 4, 4, 4, 4, 8]), perm=[0, 1, 3, 2, 4, 5])
    return n.conv(n.add("Transpose", n.add("Reshape", x, [1, 16, 16, 8]), perm=[0, 3, 1, 2]), 8, 8)


NETS: dict[str, tuple[Callable[[Net, str], str], int]] = {
    "plain": (_plain, 0),
    "residual": (_residual, 0),
    "branches": (_branches, 0),
    "split": (_split_branches, 0),
    "squeeze-excite": (_squeeze_excite, 0),
    "squeeze-excite-linear": (_squeeze_excite_linear, 0),
    "channel-shuffle": (_shuffle, 1),  # the numbers do change places
    "pixel-shuffle": (_pixel_shuffle, 1),
    "pixel-unshuffle": (_pixel_unshuffle, 1),
    "u-net": (_u_net, 0),
    "focus": (_focus, 0),
    "pad": (_padded, 0),
    "anchors": (_anchors, 1),  # the result has anchors before space
    "boxes": (_boxes, 0),
    "patches": (_patches, 0),
    "unpatched": (_unpatched, 0),
    "attention": (_attention, 4),  # a matrix product wants heads before tokens
    "windows": (_windows, 2),
}


def _last(model: Net, build: Callable[[Net, str], str]) -> onnx.ModelProto:
    """A net whose own interface is channels last, as --io-layout nhwc makes it."""
    out = build(model, model.add("Transpose", "x", perm=[0, 3, 1, 2]))
    made = model.model([1, 16, 16, 3], [out])
    if len(made.graph.output[0].type.tensor_type.shape.dim) != 4:
        return made
    model.add("Transpose", out, perm=[0, 2, 3, 1])
    return model.model([1, 16, 16, 3], [model.nodes[-1].output[0]])


def _quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = ir.from_proto(model)
    rules = contract(load_target("raspberry-pi-5"))
    plan = annotate(graph.graph, rules)
    names = [name for name in plan.values if name not in graph.graph.initializers]
    observed, _ = calibrate(graph, names, [Batch(feeds, 1, None) for feeds in feeds_of(model)], "minmax")
    quantized: onnx.ModelProto = ir.to_proto(
        insert(graph, assign_ranges(plan, graph.graph, rules, observed, "minmax"), rules)
    )
    return quantized


@pytest.mark.parametrize("name", NETS)
def test_float(name: str) -> None:
    build, transposes = NETS[name]
    found = check_float(_last(Net(), build))
    assert found.ops.count("TRANSPOSE") == transposes, found.ops


@pytest.mark.parametrize("name", NETS)
def test_int8(name: str) -> None:
    build, transposes = NETS[name]
    quantized = _quantized(_last(Net(), build))
    found = run(quantized, feeds_of(quantized, seed=3))
    assert found.ops.count("TRANSPOSE") == transposes, found.ops
    for (got,), (expected,) in zip(found.got, found.expected, strict=True):
        assert np.abs(got - expected).max() < 0.03 * np.abs(expected).max()


def test_a_transposition_of_codes_comes_before_they_are_made_real() -> None:
    net = Net()
    quantized = _quantized(net.model([1, 3, 16, 16], [net.conv("x", 3, 4)]))
    assert run(quantized, feeds_of(quantized)).ops == ["QUANTIZE", "TRANSPOSE", "CONV_2D", "TRANSPOSE", "DEQUANTIZE"]


def test_sequences_are_channels_last_too() -> None:
    net = Net()
    x = net.add("MaxPool", net.conv(net.add("Transpose", "x", perm=[0, 2, 1]), 8, 16, space=1), kernel_shape=[2])
    out = net.linear(net.add("Transpose", net.conv(x, 16, 8, space=1), perm=[0, 2, 1]), 8, 4)
    assert "TRANSPOSE" not in check_float(net.model([1, 32, 8], [out])).ops


def test_an_input_is_transposed_once_and_an_output_once() -> None:
    net = Net()
    found = check_float(net.model([1, 3, 16, 16], [_branches(net, net.add("Identity", "x"))]))
    assert found.ops.count("TRANSPOSE") == 2
    net = Net()
    found = check_float(net.model([1, 3, 16, 16], [net.conv("x", 3, 4), net.conv("x", 3, 5)]))
    assert found.ops.count("TRANSPOSE") == 3
