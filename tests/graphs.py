"""Small float models with the idioms that real ones are made of. Weights are seeded; every node has a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dsedge.frontend.onnx import from_proto
from dsedge.model import Model


class Net:
    """Builds a model node by node; every method takes and returns value names.

    A node is called `<op>_<number>` and its output the same in lower case, so tests can name both.
    """

    def __init__(self, *, opset: int = 20, seed: int = 0, prefix: str = "", **inputs: Sequence[int | str]) -> None:
        self.rng, self.opset, self.prefix = np.random.default_rng(seed), opset, prefix
        self.inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs.items()]
        self.channels = {n: s[1] for n, s in inputs.items() if len(s) > 1 and isinstance(s[1], int)}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def const(self, array: Any, name: str | None = None) -> str:
        array = np.asarray(array, None if not isinstance(array, list | float) else np.float32)
        self.weights.append(
            numpy_helper.from_array(np.asarray(array), name or f"{self.prefix}const_{len(self.weights)}")
        )
        return self.weights[-1].name

    def ints(self, *values: int) -> str:
        return self.const(np.array(values, np.int64))

    def weight(self, *shape: int, fan_in: int | None = None) -> str:
        fan_in = fan_in or int(np.prod(shape[1:]))
        return self.const((self.rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32))

    def op(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        (output,) = self.ops(op_type, *inputs, count=1, domain=domain, **attributes)
        return output

    def ops(self, op_type: str, *inputs: str, count: int, domain: str = "", **attributes: Any) -> list[str]:
        name = f"{self.prefix}{op_type}_{len(self.nodes)}"
        outputs = [name.lower() if i == 0 else f"{name.lower()}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name=name, domain=domain, **attributes))
        if inputs and inputs[0] in self.channels:
            self.channels |= dict.fromkeys(outputs, self.channels[inputs[0]])
        return outputs

    def conv(self, x: str, out: int, kernel: int = 3, *, act: str = "", rank: int = 2, **attributes: Any) -> str:
        """A convolution that keeps the spatial size but for `strides`, and the activation `act` behind it."""
        groups = attributes.get("group", 1)
        weight = self.weight(out, self.channels[x] // groups, *[kernel] * rank)
        bias = self.const((self.rng.standard_normal(out) * 0.1).astype(np.float32))
        y = self.op("Conv", x, weight, bias, pads=[kernel // 2] * 2 * rank, **attributes)
        self.channels[y] = out
        return self.act(act, y)

    def act(self, name: str, x: str) -> str:
        if name == "Relu6":
            return self.op("Clip", x, self.const(0.0), self.const(6.0))
        if name == "SiLU":
            return self.op("Mul", x, self.op("Sigmoid", x))
        return self.op(name, x) if name else x

    def gemm(self, x: str, inner: int, out: int) -> str:
        bias = self.const((self.rng.standard_normal(out) * 0.1).astype(np.float32))
        return self.op("Gemm", x, self.weight(out, inner), bias, transB=1)

    def head(self, x: str, classes: int = 10) -> str:
        pooled = self.op("Flatten", self.op("GlobalAveragePool", x))
        return self.gemm(pooled, self.channels[x], classes)

    def proto(self, *outputs: str, types: dict[str, int] | None = None) -> onnx.ModelProto:
        kinds = types or {}
        outs = [helper.make_tensor_value_info(o, kinds.get(o, TensorProto.FLOAT), None) for o in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, outs, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(d, 1) for d in sorted({n.domain for n in self.nodes} - {""})]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def model(self, *outputs: str, **kwargs: Any) -> Model:
        return as_model(self.proto(*outputs, **kwargs))


def as_model(proto: onnx.ModelProto, name: str = "net") -> Model:
    return from_proto(proto, name, f"{name}.onnx", "0" * 64, folder=None)


def image(**kwargs: Any) -> Net:
    return Net(x=("N", 8, 12, 12), **kwargs)


def chain(act: str = "Relu") -> Model:
    net = image()
    y = "x"
    for out, stride in ((16, 1), (24, 2), (16, 1)):
        y = net.conv(y, out, act=act, strides=[stride, stride])
    return net.model(net.head(y))


def residual() -> Model:
    net = image()
    x = net.conv("x", 16, act="Relu")
    for _ in range(2):
        x = net.act("Relu", net.op("Add", net.conv(net.conv(x, 16, act="Relu"), 16), x))
    return net.model(net.head(x))


def inverted_residual() -> Model:
    """MobileNetV2's block: 1x1, depthwise, 1x1 without activation, Add without activation."""
    net = image()
    x = net.conv("x", 16)
    for _ in range(2):
        wide = net.conv(net.conv(x, 32, 1, act="Relu6"), 32, act="Relu6", group=32)
        x = net.op("Add", x, net.conv(wide, 16, 1))
    return net.model(net.head(net.conv(x, 32, 1, act="Relu6")))


def concat() -> Model:
    net = image()
    x = net.conv("x", 16, act="Relu")
    joined = net.op("Concat", net.conv(x, 8, act="Relu"), net.conv(x, 8, 1, act="Relu"), x, axis=1)
    net.channels[joined] = 32
    return net.model(net.head(net.conv(joined, 16, act="Relu")))


def signed_concat() -> Model:
    """Branches with and without Relu under one Concat: one scale cannot have its zero point at the least code."""
    net = image()
    x = net.conv("x", 16, act="Relu")
    joined = net.op("Concat", net.conv(x, 8, act="Relu"), net.conv(x, 8), axis=1)
    net.channels[joined] = 16
    return net.model(net.head(net.conv(joined, 16, act="Relu")))


def inception() -> Model:
    net = image()
    x = net.conv("x", 16, act="Relu")
    window = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}
    average = net.conv(net.op("AveragePool", x, **window), 8, 1, act="Relu")
    branches = [net.conv(x, 8, 1, act="Relu"), average, net.op("MaxPool", x, **window)]
    joined = net.op("Concat", *branches, axis=1)
    net.channels[joined] = 32
    pooled = net.op("MaxPool", joined, kernel_shape=[2, 2], strides=[2, 2])
    return net.model(net.head(net.conv(pooled, 16, act="Relu")))


def upsample(mode: str = "nearest") -> Model:
    """A U-Net in small: down, up again, joined with what came before."""
    net = image()
    x = net.conv("x", 16, act="Relu")
    down = net.conv(x, 16, act="Relu", strides=[2, 2])
    up = net.op("Resize", down, "", net.const([1.0, 1.0, 2.0, 2.0]), mode=mode)
    joined = net.op("Concat", up, x, axis=1)
    net.channels[joined] = 32
    return net.model(net.conv(joined, 3, 1))


def grouped() -> Model:
    net = image()
    return net.model(net.head(net.conv(net.conv("x", 16, act="Relu"), 32, act="Relu", group=4)))


def conv1d() -> Model:
    net = Net(x=("N", 16, 32))
    y = net.conv(net.conv("x", 16, act="Relu", rank=1), 16, act="Relu", rank=1, strides=[2])
    return net.model(net.op("GlobalAveragePool", y))


def mlp() -> Model:
    net = Net(x=("N", 256))
    return net.model(net.op("Softmax", net.gemm(net.act("Relu", net.gemm("x", 256, 256)), 256, 256)))


def matmul3d() -> Model:
    """A linear layer over tokens, as exporters write it: MatMul and Add of a bias."""
    net = Net(x=("N", 64, 32))
    hidden = net.op("Add", net.op("MatMul", "x", net.weight(32, 64, fan_in=32)), net.weight(64, fan_in=64))
    return net.model(net.op("MatMul", net.act("Relu", hidden), net.weight(64, 32, fan_in=64)))


def two_inputs() -> Model:
    net = Net(image=("N", 8, 12, 12), depth=("N", 4, 12, 12))
    y = net.op("Add", net.conv("image", 16), net.conv("depth", 16))
    return net.model(net.head(net.conv(net.act("Relu", y), 16, act="Relu")))


def multi_output() -> Model:
    """Heads on one trunk, and an output that is also consumed."""
    net = image()
    trunk = net.conv(net.conv("x", 16, act="Relu"), 16, act="Relu")
    return net.model(trunk, net.conv(trunk, 8), net.head(trunk))


def tapped() -> Model:
    """The output of a convolution is an output of the graph and goes into a Relu and a convolution."""
    net = image()
    y = net.conv("x", 16)
    return net.model(y, net.conv(net.act("Relu", y), 8), net.conv(y, 8))


def doubled() -> Model:
    net = image()
    y = net.conv("x", 16)
    return net.model(net.head(net.conv(net.op("Add", y, y), 16, act="Relu")))


def constants() -> Model:
    """Add and Mul with constants, Concat with one."""
    net = image()
    y = net.op("Add", net.conv("x", 16, act="Relu"), net.weight(1, 16, 1, 1, fan_in=2))
    y = net.op("Mul", net.conv(y, 16), net.weight(1, 16, 1, 1, fan_in=2))
    y = net.conv(y, 16, act="Relu", strides=[2, 2])
    first = net.op("Slice", y, net.ints(0), net.ints(1), net.ints(0))
    joined = net.op("Concat", first, net.const(net.rng.random((1, 4, 6, 6)).astype(np.float32)), axis=1)
    net.channels[joined] = 20
    return net.model(net.conv(joined, 8))


def moves() -> Model:
    """Operators that move codes, between convolutions."""
    net = image()
    y = net.conv("x", 16, act="Relu")
    left, right = net.ops("Split", y, axis=1, num_outputs=2, count=2)
    left = net.op("Slice", left, net.ints(0), net.ints(10), net.ints(2))
    left = net.op("Pad", left, net.ints(0, 0, 1, 0, 0, 0, 1, 0))
    y = net.op("Concat", right, left, axis=1)
    y = net.op("Transpose", net.op("Transpose", y, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    y = net.op("Reshape", y, net.ints(0, 64, 6, 6))
    y = net.op("DepthToSpace", y, blocksize=2)
    net.channels[y] = 16
    return net.model(net.head(net.conv(y, 16, act="Relu")))


def squeeze_excite(gate: str = "Sigmoid") -> Model:
    net = image()
    y = net.conv("x", 16, act="Relu")
    scale = net.conv(net.conv(net.op("GlobalAveragePool", y), 16, 1, act="Relu"), 16, 1, act=gate)
    return net.model(net.head(net.conv(net.op("Mul", y, scale), 16, act="Relu")))


def detector() -> Model:
    """Boxes and scores of very different ranges, decoded and joined behind the last convolutions."""
    net = image()
    y = net.conv("x", 16, act="Relu", strides=[2, 2])
    boxes, scores = net.conv(y, 4, 1), net.op("Sigmoid", net.conv(y, 4, 1))
    flat = [net.op("Reshape", v, net.ints(0, 4, -1)) for v in (net.op("Mul", boxes, net.const(100.0)), scores)]
    return net.model(net.op("Concat", *flat, axis=1))


def shared_weight() -> Model:
    """One weight and one bias in two convolutions."""
    net = image()
    x = net.conv("x", 16, act="Relu")
    weight, bias = net.weight(16, 16, 3, 3), net.weight(16, fan_in=64)
    y = net.act("Relu", net.op("Conv", x, weight, bias, pads=[1, 1, 1, 1]))
    y = net.act("Relu", net.op("Conv", y, weight, bias, pads=[1, 1, 1, 1]))
    net.channels[y] = 16
    return net.model(net.head(y))


def branches() -> Model:
    """An If whose bodies read a value of the outer graph, and hold a convolution."""
    net = image()
    y = net.conv("x", 16, act="Relu")
    inner = Net(seed=1, prefix="inner_")
    inner.channels[y] = 16
    out = inner.conv(y, 16)
    then = helper.make_graph(inner.nodes, "then", [], [helper.make_tensor_value_info(out, 1, None)], inner.weights)
    other = helper.make_graph(
        [helper.make_node("Neg", [y], ["negated"], name="Neg_inner")],
        "other",
        [],
        [helper.make_tensor_value_info("negated", 1, None)],
    )
    total = net.op("ReduceSum", "x", keepdims=0)
    positive = net.op("Greater", total, net.const(np.float32(0)))
    chosen = net.op("If", positive, then_branch=then, else_branch=other)
    net.channels[chosen] = 16
    return net.model(net.conv(net.op("Relu", chosen), 8), net.head(net.conv(y, 8)))


def lstm(direction: str = "forward", *, states: bool = False, hidden: int = 16) -> Model:
    """A recurrent layer over [T, N, 8] and a linear layer behind; with `states` its last states are outputs too."""
    net = Net(x=("T", 1, 8))
    ways = 2 if direction == "bidirectional" else 1
    weights = [net.weight(ways, 4 * hidden, k, fan_in=k) for k in (8, hidden)]
    bias = net.weight(ways, 8 * hidden, fan_in=64)
    y, h, c = net.ops("LSTM", "x", *weights, bias, count=3, direction=direction, hidden_size=hidden)
    last = net.op("Reshape", h, net.ints(1, ways * hidden))
    logits = net.gemm(last, ways * hidden, 4)
    return net.model(logits, y, h, c) if states else net.model(logits)


def gru() -> Model:
    net = Net(x=("T", 1, 8))
    weights = [net.weight(1, 48, k, fan_in=k) for k in (8, 16)]
    _, h = net.ops("GRU", "x", *weights, net.weight(1, 96, fan_in=64), count=2, hidden_size=16)
    return net.model(net.gemm(net.op("Reshape", h, net.ints(1, 16)), 16, 4))


GRAPHS: dict[str, Callable[[], Model]] = {
    "chain": chain,
    "residual": residual,
    "inverted residual": inverted_residual,
    "SiLU": lambda: chain("SiLU"),
    "HardSwish": lambda: chain("HardSwish"),
    "LeakyRelu": lambda: chain("LeakyRelu"),
    "concat": concat,
    "signed concat": signed_concat,
    "inception": inception,
    "upsample nearest": upsample,
    "upsample linear": lambda: upsample("linear"),
    "grouped": grouped,
    "conv1d": conv1d,
    "mlp": mlp,
    "matmul3d": matmul3d,
    "two inputs": two_inputs,
    "multi output": multi_output,
    "tapped": tapped,
    "doubled": doubled,
    "constants": constants,
    "moves": moves,
    "squeeze-excite, Sigmoid": squeeze_excite,
    "squeeze-excite, HardSigmoid": lambda: squeeze_excite("HardSigmoid"),
    "detector": detector,
    "shared weight": shared_weight,
    "branches": branches,
    "LSTM": lstm,
    "LSTM with states": lambda: lstm(states=True),
    "bidirectional LSTM": lambda: lstm("bidirectional", states=True),
    "GRU": gru,
}
