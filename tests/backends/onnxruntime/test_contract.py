"""Every line of the contract's table against the runtime: what it promises to be INT8 really runs in INT8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from flow import VARIANTS, Quantized, contract, executed, quantized, samples, worst_sqnr
from graphs import Net, lstm

from dsedge.backends import onnxruntime as backend
from dsedge.data import Batch
from dsedge.model import Model
from dsedge.target import Target, load_target

HOST = next((name for name in VARIANTS.values() if load_target(name).matches_host()[0]), None)
on_host = pytest.mark.skipif(HOST is None, reason="no variant of the contract is this machine's")

Between = Callable[[Net, str], str]
WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2]}
TWICE = [1.0, 1.0, 2.0, 2.0]


def between(make: Between, channels: int = 16) -> Model:
    """A convolution, what `make` builds, and a convolution."""
    net = Net(x=(1, 8, 12, 12))
    y = make(net, net.conv("x", 16))
    net.channels[y] = channels
    return net.model(net.conv(y, 8))


def before_gemm(make: Between) -> Model:
    net = Net(x=(1, 8, 12, 12))
    return net.model(net.gemm(make(net, net.conv("x", 16, strides=[2, 2])), 576, 256))


def matmul() -> Model:
    net = Net(x=(1, 64, 32))
    return net.model(net.op("MatMul", net.op("MatMul", "x", net.weight(32, 64, fan_in=32)), net.weight(64, 32)))


def gemm(**attributes: int) -> Model:
    net = Net(x=(4, 256))
    return net.model(net.op("Gemm", "x", net.weight(256, 256), net.weight(256), **attributes))


def table() -> Model:
    net = Net(x=(1, 16))
    rows = net.op("Gather", net.weight(300, 64, fan_in=1), net.op("Cast", "x", to=onnx.TensorProto.INT64))
    return net.model(net.gemm(net.op("Flatten", rows), 1024, 256))


def other(net: Net) -> str:
    return net.conv("x", 16)


def relu6(net: Net) -> str:
    return net.act("Relu6", other(net))


def halved(net: Net) -> str:
    return net.conv("x", 16, strides=[2, 2])


FIXTURES: dict[str, dict[str, Callable[[], Model]]] = {
    "Conv": {
        "plain": lambda: between(lambda n, y: n.conv(y, 16, act="Relu")),
        "depthwise": lambda: between(lambda n, y: n.conv(y, 16, group=16)),
        "grouped": lambda: between(lambda n, y: n.conv(y, 16, group=4)),
        "dilated": lambda: between(lambda n, y: n.conv(y, 16, dilations=[2, 2])),
        "without bias": lambda: between(lambda n, y: n.op("Conv", y, n.weight(16, 16, 3, 3))),
    },
    "Gemm": {
        "transB": lambda: gemm(transB=1),
        "plain": lambda: gemm(),
        "behind Flatten": lambda: before_gemm(lambda n, y: n.op("Flatten", y)),
    },
    "MatMul": {"chain": matmul},
    "Add": {
        "of two": lambda: between(lambda n, y: n.op("Add", y, other(n))),
        "with a constant": lambda: between(lambda n, y: n.op("Add", y, n.weight(1, 16, 1, 1, fan_in=1))),
        "with itself": lambda: between(lambda n, y: n.op("Add", y, y)),
        "and Relu": lambda: between(lambda n, y: n.act("Relu", n.op("Add", y, other(n)))),
    },
    "Mul": {
        "of two": lambda: between(lambda n, y: n.op("Mul", y, other(n))),
        "with a constant": lambda: between(lambda n, y: n.op("Mul", y, n.weight(1, 16, 1, 1, fan_in=1))),
        "broadcast": lambda: between(lambda n, y: n.op("Mul", y, n.op("GlobalAveragePool", y))),
        "SiLU": lambda: between(lambda n, y: n.act("SiLU", y)),
    },
    "Sigmoid": {"": lambda: between(lambda n, y: n.op("Sigmoid", y))},
    "LeakyRelu": {"": lambda: between(lambda n, y: n.op("LeakyRelu", y, alpha=0.1))},
    "AveragePool": {
        "": lambda: between(lambda n, y: n.op("AveragePool", y, **WINDOW)),
        "padded": lambda: between(lambda n, y: n.op("AveragePool", y, kernel_shape=[3, 3], pads=[1] * 4)),
    },
    "GlobalAveragePool": {"": lambda: between(lambda n, y: n.op("GlobalAveragePool", y))},
    "Relu": {
        "of a convolution": lambda: between(lambda n, y: n.op("Relu", y)),
        "of a sum": lambda: between(lambda n, y: n.op("Relu", n.op("Add", y, other(n)))),
        "of a pool": lambda: between(lambda n, y: n.op("Relu", n.op("AveragePool", y, **WINDOW))),
        "beside its input": lambda: between(lambda n, y: n.op("Add", n.op("Relu", y), y)),
        "before Concat with signed values": lambda: between(
            lambda n, y: n.op("Concat", n.op("Relu", y), other(n), axis=1), 32
        ),
        "of a sum before Concat with signed values": lambda: between(
            lambda n, y: n.op("Concat", n.op("Relu", n.op("Add", y, other(n))), y, axis=1), 32
        ),
    },
    "Clip": {
        "of a convolution": lambda: between(lambda n, y: n.act("Relu6", y)),
        "of a sum": lambda: between(lambda n, y: n.act("Relu6", n.op("Add", y, other(n)))),
        "with a lower limit": lambda: between(lambda n, y: n.op("Clip", y, n.const(0.0))),
        "to -1 and 1": lambda: between(lambda n, y: n.op("Clip", y, n.const(-1.0), n.const(1.0))),
        "beside its input": lambda: between(lambda n, y: n.op("Add", n.act("Relu6", y), y)),
    },
    "MaxPool": {"": lambda: between(lambda n, y: n.op("MaxPool", y, **WINDOW))},
    "Concat": {
        "of two": lambda: between(lambda n, y: n.op("Concat", y, other(n), axis=1), 32),
        "with itself": lambda: between(lambda n, y: n.op("Concat", y, y, axis=1), 32),
        "with the input": lambda: between(lambda n, y: n.op("Concat", y, "x", axis=1), 24),
        "of Relu and of Relu6": lambda: between(lambda n, y: n.op("Concat", n.act("Relu", y), relu6(n), axis=1), 32),
        "of Relu, pooled, and signed values": lambda: between(
            lambda n, y: n.op("Concat", n.op("MaxPool", n.act("Relu", y), **WINDOW), halved(n), axis=1), 32
        ),
        "of Relu, sliced, and signed values": lambda: between(
            lambda n, y: n.op(
                "Concat", n.op("Slice", n.act("Relu", y), *(n.ints(i) for i in (0, 8, 1))), other(n), axis=1
            ),
            24,
        ),
        "of a Concat of Relu and signed values": lambda: between(
            lambda n, y: n.op(
                "Concat", n.op("Concat", n.act("Relu", y), n.act("Relu", other(n)), axis=1), other(n), axis=1
            ),
            48,
        ),
    },
    "Resize": {
        mode: lambda mode=mode: between(lambda n, y: n.op("Resize", y, "", n.const(TWICE), mode=mode))
        for mode in ("nearest", "linear")
    },
    "Pad": {
        "": lambda: between(lambda n, y: n.op("Pad", y, n.ints(0, 0, 1, 1, 0, 0, 1, 1))),
        "with a value": lambda: between(lambda n, y: n.op("Pad", y, n.ints(0, 0, 1, 1, 0, 0, 1, 1), n.const(0.5))),
    },
    "Reshape": {"": lambda: between(lambda n, y: n.op("Reshape", y, n.ints(0, 4, 24, 24)), 4)},
    "Flatten": {"": lambda: before_gemm(lambda n, y: n.op("Flatten", y))},
    "Transpose": {"": lambda: between(lambda n, y: n.op("Transpose", y, perm=[0, 1, 3, 2]))},
    "Squeeze": {"": lambda: before_gemm(lambda n, y: n.op("Flatten", n.op("Squeeze", y, n.ints(0)), axis=0))},
    "Unsqueeze": {
        "": lambda: between(lambda n, y: n.op("Squeeze", n.op("Unsqueeze", y, n.ints(0)), n.ints(0))),
    },
    "Slice": {"": lambda: between(lambda n, y: n.op("Slice", y, n.ints(1), n.ints(9), n.ints(2)))},
    "Split": {
        "both halves": lambda: between(
            lambda n, y: n.op("Concat", *n.ops("Split", y, count=2, axis=2, num_outputs=2)[::-1], axis=2)
        ),
        "one half": lambda: between(lambda n, y: n.ops("Split", y, count=2, axis=1, num_outputs=2)[1], 8),
    },
    "Gather": {
        "": lambda: between(lambda n, y: n.op("Gather", y, n.ints(3, 1, 2, 0), axis=1), 4),
        "of a table": table,
    },
    "Expand": {
        "": lambda: between(lambda n, y: n.op("Expand", n.op("GlobalAveragePool", y), n.ints(1, 16, 4, 4))),
    },
    "HardSwish": {"": lambda: between(lambda n, y: n.op("HardSwish", y))},
    "ReduceMax": {"": lambda: between(lambda n, y: n.op("Add", y, n.op("ReduceMax", y, n.ints(1))))},
    "DepthToSpace": {"": lambda: between(lambda n, y: n.op("DepthToSpace", y, blocksize=2), 4)},
    "SpaceToDepth": {"": lambda: between(lambda n, y: n.op("SpaceToDepth", y, blocksize=2), 64)},
    "LSTM": {
        "forward": lambda: lstm(),
        "bidirectional": lambda: lstm("bidirectional"),
        "reverse, with states": lambda: lstm("reverse", states=True),
    },
}
# May be INT8 or float; what the plan says must be true.
NOT_PROMISED = {
    *(("Clip", "to -1 and 1"), ("Clip", "beside its input"), ("Relu", "beside its input"), ("Resize", "linear")),
    *(("Pad", ""), ("Pad", "with a value"), ("SpaceToDepth", ""), ("Split", "one half")),
}
CASES = [(op, case) for op, cases in FIXTURES.items() for case in cases]


def large(model: Model) -> list[Batch]:
    """Samples large enough that a Clip to 6 does clip."""
    return [Batch({k: 5 * v for k, v in b.feeds.items()}, 1, None) for b in samples(model)]


def made(op: str, case: str, variant: str) -> Quantized:
    source = FIXTURES[op][case]()
    return quantized(source, contract(variant), batches=large(source), normal=False)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_table(variant: str) -> None:
    accepts = contract(variant)
    assert accepts.id == f"onnxruntime/{variant}"
    assert accepts.weight.symmetric
    assert not accepts.activation.symmetric
    names = [(rule.domain, rule.op) for rule in accepts.operators]
    for_all = [name for name, rule in zip(names, accepts.operators, strict=True) if rule.only is None]
    assert len(for_all) == len(set(for_all))
    for rule in accepts.operators:
        assert onnx.defs.has(rule.op, rule.domain), f"{rule.op} is no operator of ONNX"
        assert rule.because
    for head, absorbed in accepts.fusions.items():
        assert ("", head) in names
        assert all(("", op) in names for op in absorbed), "an activation that is not fused needs a line of its own"


def test_every_operator_that_is_int8_has_a_fixture() -> None:
    assert {rule.op for rule in contract().operators if rule.kind != "float"} <= set(FIXTURES)


@on_host
@pytest.mark.parametrize(("op", "case"), CASES, ids=[f"{op} {case}".strip() for op, case in CASES])
def test_what_the_plan_calls_int8_runs_in_int8(op: str, case: str, tmp_path: Path) -> None:
    assert HOST is not None
    target: Target = load_target(HOST)
    m = made(op, case, contract_variant())
    artifact = backend.build(m.model, tmp_path)
    audit = backend.audit(artifact, m.plan, target)
    assert audit.performed
    assert audit.unmatched == {}
    graph = executed(artifact.main, tmp_path)
    unpacked = [n.name for n in graph if n.op_type == "DequantizeLinear" and n.inputs[0].const_value is not None]
    assert unpacked == [], "weights are dequantized at every inference"
    heavy = ("Conv", "FusedConv", "Gemm", "MatMul", "LSTM")
    left_in_float = [n.name for n in m.plan.nodes.values() if n.op_type in heavy and n.precision == "float"]
    assert sum(n.op_type in heavy for n in graph) == len(left_in_float)
    if (op, case) not in NOT_PROMISED:
        assert op in {n.op_type for n in m.plan.nodes.values() if n.precision != "float"}, "the fixture is for nothing"


def contract_variant() -> str:
    return next(variant for variant, name in VARIANTS.items() if name == HOST)


@pytest.mark.parametrize("variant", ["x86-vnni", "arm-dotprod"])
@pytest.mark.parametrize(("op", "case"), CASES, ids=[f"{op} {case}".strip() for op, case in CASES])
def test_the_runtime_computes_what_the_graph_says(op: str, case: str, variant: str, tmp_path: Path) -> None:
    """On this machine's kernels, whatever the variant; the s8 ones and those of ARM run in float here."""
    m = made(op, case, variant)
    batches = large(m.source)
    artifact = ir.load(backend.build(m.model, tmp_path).main)
    onnx.checker.check_model(ir.to_proto(m.model), full_check=True)
    simulated = worst_sqnr(m.graph, m.model, batches, optimize=False)
    assert simulated > 20
    assert worst_sqnr(m.graph, artifact, batches) > simulated - 1.5


@pytest.mark.parametrize(
    ("model", "node", "reason"),
    [
        (lambda: gemm(alpha=2.0), "Gemm_0", "alpha or beta"),
        (lambda: gemm(beta=0.5), "Gemm_0", "alpha or beta"),
        (lambda: lstm(hidden=16), "Gemm_2", "too few"),
        (lambda: between(lambda n, y: n.op("Resize", y, "", n.const(TWICE), mode="linear")), "Resize_1", "linear"),
        (
            lambda: between(lambda n, y: n.op("Pad", y, n.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")),
            "Pad_1",
            "pattern",
        ),
        (lambda: between(lambda n, y: n.op("Softmax", y)), "Softmax_1", "slower"),
        (lambda: between(lambda n, y: n.op("Erf", y)), "Erf_1", "no INT8 kernel"),
    ],
)
def test_what_stays_float_says_why(model: Callable[[], Model], node: str, reason: str) -> None:
    m = quantized(model(), normal=False)
    assert m.precision(node) == "float"
    assert reason in m.reason(node)


def test_a_pool_whose_indices_are_used_stays_float() -> None:
    net = Net(x=(1, 8, 12, 12))
    pooled, indices = net.ops("MaxPool", net.conv("x", 16), count=2, **WINDOW)
    net.channels[pooled] = 16
    m = quantized(net.model(net.conv(pooled, 8), indices, types={indices: onnx.TensorProto.INT64}), normal=False)
    assert m.precision("MaxPool_1") == "float"
    assert "indices" in m.reason("MaxPool_1")


def test_a_bias_that_is_computed_leaves_its_node_float() -> None:
    net = Net(x=(1, 8, 12, 12), b=(16,))
    m = quantized(net.model(net.op("Conv", "x", net.weight(16, 8, 3, 3), "b")), normal=False)
    assert m.reason("Conv_0") == "its bias is not a constant"
