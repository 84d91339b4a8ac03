"""Every line of the contract's table against the emitter and the runtime: what it promises to be INT8 is INT8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from flow import Quantized, quantized, samples
from graphs import Net, lstm

from dsedge.backends import litert
from dsedge.backends.litert.audit import delegation
from dsedge.backends.litert.ops import OPS
from dsedge.backends.litert.read import Operator, read
from dsedge.data import Batch
from dsedge.frontend.shapes import fix_shapes
from dsedge.model import Model
from dsedge.quant.annotate import annotate
from dsedge.quant.contract import Contract
from dsedge.quant.interface import output_scales
from dsedge.target import load_target
from dsedge.verify import open_artifact, predictor

BOARDS = {"xnnpack": "raspberry-pi-5", "tflite-2.14": "pos-armv7"}
CONTRACTS = {variant: litert.contract(load_target(board)) for variant, board in BOARDS.items()}
XNNPACK = CONTRACTS["xnnpack"]
Between = Callable[[Net, str], str]
WINDOW = {"kernel_shape": [2, 2], "strides": [2, 2]}
TWICE = [1.0, 1.0, 2.0, 2.0]


def between(make: Between, channels: int = 16) -> Model:
    """A convolution, what `make` builds, and a convolution."""
    net = Net(x=(1, 8, 12, 12))
    y = make(net, net.conv("x", 16))
    net.channels[y] = channels
    return net.model(net.conv(y, 8))


def before_gemm(make: Between, inner: int) -> Model:
    net = Net(x=(1, 8, 12, 12))
    return net.model(net.gemm(make(net, net.conv("x", 16, strides=[2, 2])), inner, 24))


def matmul() -> Model:
    net = Net(x=(1, 16, 32))
    return net.model(net.op("MatMul", net.op("MatMul", "x", net.weight(32, 24, fan_in=32)), net.weight(24, 32)))


def attention() -> Model:
    """Two heads over ten vectors of 32 numbers; keys and values are made by one product."""
    net = Net(x=(1, 10, 32))

    def heads(made: str) -> str:
        return net.op("Transpose", net.op("Reshape", made, net.ints(1, 10, 2, 16)), perm=[0, 2, 1, 3])

    queries = heads(net.op("MatMul", "x", net.weight(32, 32, fan_in=32)))
    both = net.op("MatMul", "x", net.weight(32, 64, fan_in=32))
    keys, values = (heads(half) for half in net.ops("Split", both, count=2, axis=2, num_outputs=2))
    scores = net.op("MatMul", queries, net.op("Transpose", keys, perm=[0, 1, 3, 2]))
    weights = net.op("Softmax", net.op("Mul", scores, net.const(0.05)), axis=-1)
    seen = net.op("Transpose", net.op("MatMul", weights, values), perm=[0, 2, 1, 3])
    joined = net.op("Reshape", seen, net.ints(1, 10, 32))
    return net.model(net.op("MatMul", joined, net.weight(32, 32, fan_in=32)))


def embedding() -> Model:
    net = Net(x=(1, 8))
    rows = net.op("Gather", net.weight(64, 256), net.op("Cast", "x", to=onnx.TensorProto.INT64))
    return net.model(net.op("MatMul", rows, net.weight(256, 32, fan_in=256)))


def classified(op: str) -> Model:
    net = Net(x=(1, 8, 12, 12))
    found = net.op(op, net.conv("x", 16), axis=1, keepdims=0)
    return net.model(found, types={found: onnx.TensorProto.INT64})


def sequence() -> Model:
    net = Net(x=(1, 8, 40))
    y = net.conv("x", 16, rank=1, act="Relu")
    return net.model(net.conv(y, 8, rank=1))


def upsampling(**attributes: int) -> Model:
    net = Net(x=(1, 8, 6, 6))
    group = attributes.get("group", 1)
    weight = net.weight(16, 12 // group, 2, 2, fan_in=16)
    y = net.op("ConvTranspose", net.conv("x", 16), weight, net.const([0.1] * 12), strides=[2, 2], **attributes)
    net.channels[y] = 12
    return net.model(net.conv(net.act("Relu", y), 8))


def other(net: Net) -> str:
    return net.conv("x", 16)


FIXTURES: dict[str, dict[str, Callable[[], Model]]] = {
    "Conv": {
        "plain": lambda: between(lambda n, y: n.conv(y, 16, act="Relu")),
        "depthwise": lambda: between(lambda n, y: n.conv(y, 16, group=16)),
        "grouped": lambda: between(lambda n, y: n.conv(y, 16, group=4)),
        "dilated": lambda: between(lambda n, y: n.conv(y, 16, dilations=[2, 2])),
        "without bias": lambda: between(lambda n, y: n.op("Conv", y, n.weight(16, 16, 3, 3))),
        "over one axis": sequence,
    },
    "ConvTranspose": {"": upsampling, "grouped": lambda: upsampling(group=2)},
    "Gemm": {"behind Flatten": lambda: before_gemm(lambda n, y: n.op("Flatten", y), 576)},
    "MatMul": {"chain": matmul, "of activations": attention},
    "Add": {
        "of two": lambda: between(lambda n, y: n.op("Add", y, other(n))),
        "with a constant": lambda: between(lambda n, y: n.op("Add", y, n.weight(1, 16, 1, 1, fan_in=1))),
        "with itself, and Relu": lambda: between(lambda n, y: n.act("Relu", n.op("Add", y, y))),
    },
    "Sub": {"": lambda: between(lambda n, y: n.op("Sub", y, other(n)))},
    "Mul": {
        "broadcast": lambda: between(lambda n, y: n.op("Mul", y, n.op("GlobalAveragePool", y))),
        "SiLU": lambda: between(lambda n, y: n.act("SiLU", y)),
    },
    "Div": {"by a number": lambda: between(lambda n, y: n.act("Relu", n.op("Div", y, n.const(2.7))))},
    "Sigmoid": {"": lambda: between(lambda n, y: n.op("Sigmoid", y))},
    "Tanh": {"": lambda: between(lambda n, y: n.op("Tanh", y))},
    "LeakyRelu": {"": lambda: between(lambda n, y: n.op("LeakyRelu", y, alpha=0.1))},
    "Elu": {"": lambda: between(lambda n, y: n.op("Elu", y))},
    "GlobalAveragePool": {"": lambda: between(lambda n, y: n.op("GlobalAveragePool", y))},
    "ReduceMean": {"": lambda: between(lambda n, y: n.op("ReduceMean", y, n.ints(2), keepdims=1))},
    "ReduceSum": {"": lambda: between(lambda n, y: n.op("ReduceSum", y, n.ints(3), keepdims=1))},
    "Relu": {
        "of a convolution": lambda: between(lambda n, y: n.op("Relu", y)),
        "of a pool": lambda: between(lambda n, y: n.op("Relu", n.op("MaxPool", y, **WINDOW))),
        "beside its input": lambda: between(lambda n, y: n.op("Add", n.op("Relu", y), y)),
    },
    "Clip": {
        "Relu6": lambda: between(lambda n, y: n.act("Relu6", y)),
        "with a lower limit": lambda: between(lambda n, y: n.op("Clip", y, n.const(0.0))),
        "with an upper limit": lambda: between(lambda n, y: n.op("Clip", y, "", n.const(1.5))),
        "to -1 and 2": lambda: between(lambda n, y: n.op("Clip", y, n.const(-1.0), n.const(2.0))),
        "beside its input": lambda: between(lambda n, y: n.op("Add", n.act("Relu6", y), y)),
    },
    "MaxPool": {"": lambda: between(lambda n, y: n.op("MaxPool", y, **WINDOW))},
    "GlobalMaxPool": {"": lambda: between(lambda n, y: n.op("GlobalMaxPool", y))},
    "ReduceMax": {"": lambda: between(lambda n, y: n.op("Add", y, n.op("ReduceMax", y, n.ints(1))))},
    "ReduceMin": {"": lambda: between(lambda n, y: n.op("Add", y, n.op("ReduceMin", y, n.ints(1))))},
    "Max": {"": lambda: between(lambda n, y: n.op("Max", y, other(n)))},
    "Min": {"": lambda: between(lambda n, y: n.op("Min", y, other(n)))},
    "Concat": {
        "of two": lambda: between(lambda n, y: n.op("Concat", y, other(n), axis=1), 32),
        "with the input": lambda: between(lambda n, y: n.op("Concat", y, "x", axis=1), 24),
        "of Relu and signed values": lambda: between(
            lambda n, y: n.op("Concat", n.act("Relu", y), other(n), axis=1), 32
        ),
        "of Sigmoid and others": lambda: between(lambda n, y: n.op("Concat", n.op("Sigmoid", y), y, axis=1), 32),
        "of Sigmoids": lambda: between(
            lambda n, y: n.op("Concat", n.op("Sigmoid", y), n.op("Sigmoid", other(n)), axis=1), 32
        ),
    },
    "Resize": {
        mode: lambda mode=mode: between(lambda n, y: n.op("Resize", y, "", n.const(TWICE), mode=mode))
        for mode in ("nearest", "linear")
    },
    "Pad": {"": lambda: between(lambda n, y: n.op("Pad", y, n.ints(0, 0, 1, 1, 0, 0, 1, 1)))},
    "Reshape": {"": lambda: between(lambda n, y: n.op("Reshape", y, n.ints(0, 4, 24, 24)), 4)},
    "Flatten": {"": lambda: before_gemm(lambda n, y: n.op("Flatten", y), 576)},
    "Transpose": {"": lambda: between(lambda n, y: n.op("Transpose", y, perm=[0, 1, 3, 2]))},
    "Squeeze": {"": lambda: before_gemm(lambda n, y: n.op("Flatten", n.op("Squeeze", y, n.ints(0)), axis=0), 576)},
    "Unsqueeze": {"": lambda: between(lambda n, y: n.op("Squeeze", n.op("Unsqueeze", y, n.ints(0)), n.ints(0)))},
    "Slice": {"": lambda: between(lambda n, y: n.op("Slice", y, n.ints(1), n.ints(9), n.ints(2)))},
    "Split": {
        "both halves": lambda: between(
            lambda n, y: n.op("Concat", *n.ops("Split", y, count=2, axis=2, num_outputs=2)[::-1], axis=2)
        ),
        "one half": lambda: between(lambda n, y: n.ops("Split", y, count=2, axis=1, num_outputs=2)[1], 8),
    },
    "Gather": {
        "": lambda: between(lambda n, y: n.op("Gather", y, n.ints(3, 1, 2, 0), axis=1), 4),
        "of a table": embedding,
    },
    "ArgMax": {"": lambda: classified("ArgMax")},
    "ArgMin": {"": lambda: classified("ArgMin")},
    "Expand": {"": lambda: between(lambda n, y: n.op("Expand", n.op("GlobalAveragePool", y), n.ints(1, 16, 4, 4)))},
    "Tile": {"": lambda: between(lambda n, y: n.op("Tile", y, n.ints(1, 1, 2, 1)))},
    "DepthToSpace": {"": lambda: between(lambda n, y: n.op("DepthToSpace", y, blocksize=2), 4)},
    "SpaceToDepth": {"": lambda: between(lambda n, y: n.op("SpaceToDepth", y, blocksize=2), 64)},
    "LSTM": {"": lambda: fix_shapes(lstm(), {"x": [5, 1, 8]})},
    "AveragePool": {
        "": lambda: between(lambda n, y: n.op("AveragePool", y, **WINDOW)),
        "padded": lambda: between(
            lambda n, y: n.op("AveragePool", y, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
        ),
    },
}
CASES = [(op, case) for op, cases in FIXTURES.items() for case in cases]
IDS = [f"{op} {case}".strip() for op, case in CASES]
BUILT_IN = set("SPLIT_V GATHER STRIDED_SLICE TILE BROADCAST_TO MAXIMUM MINIMUM ARG_MAX ARG_MIN".split())
"""Copies, bounds and comparisons of codes that XNNPACK does not take in float either."""
ROWS = {"CAST", "FLOOR_MOD"}
"""What makes rows of a table real numbers, and indices positive."""


LEAST_EXACT = {"LeakyRelu": 0.5, "Resize": 0.5, "Concat": 0.5, "LSTM": 0.0}
"""XNNPACK multiplies in fixed point there, so a code in a hundred is one off, and the convolution behind adds 144."""


def large(model: Model) -> list[Batch]:
    """Samples large enough that a Clip to 6 does clip."""
    return [Batch({k: 5 * v for k, v in b.feeds.items()}, 1, None) for b in samples(model)]


def made(op: str, case: str, accepts: Contract = XNNPACK) -> Quantized:
    source = FIXTURES[op][case]()
    return quantized(source, accepts, batches=large(source), normal=False)


@pytest.mark.parametrize("accepts", CONTRACTS.values(), ids=list(CONTRACTS))
def test_the_table_says_what_the_emitter_does(accepts: Contract) -> None:
    assert accepts.static
    assert accepts.weight.symmetric
    for rule in accepts.operators:
        if rule.kind == "float":
            continue
        op = OPS[rule.op]
        assert rule.fixed_output == op.fixed, rule.op
        assert rule.kind == "share" or not op.same or not rule.output, f"{rule.op}: one scale for inputs and outputs"
        if rule.kind != "dynamic":
            assert op.codes != (), f"{rule.op} is written in float"
        if rule.kind == "compute" and op.codes is not None:
            assert {*(rule.inputs or ()), *rule.weights} <= set(op.codes), rule.op  # type: ignore[misc]
    with_codes = {name for name, op in OPS.items() if op.fuses and op.codes != ()}
    assert set(accepts.fusions) <= with_codes
    assert {rule.op for rule in accepts.operators if rule.kind != "float"} & with_codes <= set(accepts.fusions)


def test_every_operator_that_is_int8_has_a_fixture() -> None:
    ops = {rule.op for accepts in CONTRACTS.values() for rule in accepts.operators if rule.kind != "float"}
    assert ops - {"GRU", "RNN"} <= set(FIXTURES)


@pytest.mark.parametrize("variant", CONTRACTS)
@pytest.mark.parametrize(("op", "case"), CASES, ids=IDS)
def test_what_the_plan_calls_int8_is_int8_and_runs_in_xnnpack(op: str, case: str, variant: str, tmp_path: Path) -> None:
    accepts = CONTRACTS[variant]
    m = made(op, case, accepts)
    artifact = litert.build(m.model, tmp_path)
    audit = litert.audit(artifact, m.plan, load_target(BOARDS[variant]))
    assert audit.performed
    assert audit.unmatched == {}
    operators = read(artifact.main)
    assert _dequantized_constants(operators) == []
    rules = {node.name or "": accepts.rule(node) for node in m.graph.graph if node.op_type == op}
    says = {"float": "float", "dynamic": "int8_dynamic"}
    assert {n: m.precision(n) for n in rules} == {n: says.get(rule.kind, "int8") for n, rule in rules.items()}
    if variant == "xnnpack" and all(rule.kind != "dynamic" for rule in rules.values()):
        found = delegation(artifact.main, operators)
        outside = {o.op for o in operators if not found.takes(o)} - BUILT_IN
        assert outside <= {"Resize": {"RESIZE_NEAREST_NEIGHBOR"}, "Gather": ROWS, "MatMul": {"SOFTMAX"}}.get(op, set())


def _dequantized_constants(operators: list[Operator]) -> list[str]:
    """Weights that are dequantized at every inference: what DEQUANTIZE reads, and no operator nor an input wrote."""
    written = {tensor for o in operators for tensor in o.outputs}
    read_by_others = {t for o in operators if o.op != "DEQUANTIZE" for t in o.inputs}
    return [o.node for o in operators if o.op == "DEQUANTIZE" and not {*o.inputs} & (written | read_by_others)]


@pytest.mark.parametrize(("op", "case"), CASES, ids=IDS)
def test_the_runtime_computes_what_the_graph_says(op: str, case: str, tmp_path: Path) -> None:
    m = made(op, case)
    batches = large(m.source)
    run, says = open_artifact(litert, litert.build(m.model, tmp_path).main, 1), predictor(m.model, optimize=False)
    (scale,) = output_scales(m.model.graph)
    for batch in batches:
        (got,), (expected,) = run(batch.feeds), says(batch.feeds)
        if got.dtype == np.int64:
            assert (got == expected).mean() > 0.95
        elif scale is None:  # weights in INT8 under float
            assert np.abs(got - expected).max() < 0.02 * np.abs(expected).max()
        else:
            steps = np.rint(np.abs(got - expected) / scale)
            assert steps.max() <= 2
            assert (steps == 0).mean() > LEAST_EXACT.get(op, 0.98)


@pytest.mark.parametrize(
    ("model", "node", "reason"),
    [
        (lambda: between(lambda n, y: n.op("Softmax", y)), "Softmax_1", "several times as fast"),
        (lambda: between(lambda n, y: n.op("HardSwish", y)), "HardSwish_1", "between two conversions"),
        (lambda: between(lambda n, y: n.op("Div", y, n.weight(16, 1, 1))), "Div_1", "between two conversions"),
        (
            lambda: between(lambda n, y: n.op("AveragePool", y, kernel_shape=[3, 3], pads=[1] * 4)),
            "AveragePool_1",
            "at the border",
        ),
        (lambda: between(lambda n, y: n.op("LeakyRelu", y, alpha=0.001)), "LeakyRelu_1", "slope"),
        (lambda: between(lambda n, y: n.op("Elu", y, alpha=0.5)), "Elu_1", "alpha"),
        (lambda: between(lambda n, y: n.op("Erf", y)), "Erf_1", "no INT8 kernel"),
        (lambda: between(lambda n, y: n.op("Max", y, n.weight(1, 16, 1, 1))), "Max_1", "share the scale"),
        (
            lambda: between(lambda n, y: n.op("Pad", y, n.ints(0, 0, 1, 1, 0, 0, 1, 1), n.const(0.5))),
            "Pad_1",
            "another value than zero",
        ),
        (
            lambda: between(
                lambda n, y: n.op(
                    "Reshape",
                    n.op("AveragePool", n.op("Reshape", y, n.ints(1, 16, 2, 6, 12)), kernel_shape=[2, 2, 2]),
                    n.ints(1, 16, 5, 11),
                )
            ),
            "AveragePool_2",
            "three axes of space",
        ),
    ],
)
def test_what_stays_float_says_why(model: Callable[[], Model], node: str, reason: str) -> None:
    graph = quantized(model(), XNNPACK, normal=False)
    assert graph.precision(node) == "float"
    assert reason in graph.reason(node)


def test_what_the_kernels_of_old_runtimes_are_slow_or_coarse_at_stays_float() -> None:
    accepts = CONTRACTS["tflite-2.14"]
    m = quantized(attention(), accepts, normal=False)
    assert sorted(n.precision for n in m.plan.nodes.values() if n.op_type == "MatMul") == ["float"] * 2 + ["int8"] * 3
    for mode, precision in (("linear", "float"), ("nearest", "int8")):
        m = quantized(FIXTURES["Resize"][mode](), accepts, normal=False)
        assert m.precision("Resize_1") == precision


def test_the_second_factor_is_symmetric_and_all_that_shares_its_scale() -> None:
    m = quantized(attention(), XNNPACK, normal=False)
    zero = {n.result: int(m.plan.values[n.result].qparams.zero_point) for n in m.plan.nodes.values() if n.output}
    products = [n for n in m.plan.nodes.values() if n.op_type == "MatMul" and len(n.inputs) == 2]
    assert len(products) == 2
    assert all(zero[n.reads[1]] == 0 for n in products)
    (split,) = (n for n in m.plan.nodes.values() if n.op_type == "Split")
    assert zero[split.reads[0]] == 0
    assert zero["matmul_0"] != 0 and zero[products[0].result] != 0


def test_a_small_table_stays_float() -> None:
    def table(*shape: int, axis: int = 0) -> str:
        net = Net(x=(1, 8))
        rows = net.op("Gather", net.weight(*shape), net.op("Cast", "x", to=onnx.TensorProto.INT64), axis=axis)
        return quantized(net.model(rows), XNNPACK, normal=False).precision("Gather_1")

    assert table(64, 256) == table(256, 64, axis=1) == table(2, 64, 128, axis=-2) == "int8"
    assert table(64, 255) == table(2**14, 1) == table(2**14) == "float"


def detector() -> Model:
    """Boxes in pixels and scores, joined and cut again, behind the last convolution."""
    net = Net(x=(1, 8, 12, 12))
    head = net.op("Reshape", net.conv(net.conv("x", 16), 12), net.ints(1, 12, 144))
    boxes, scores = net.ops("Split", head, count=2, axis=1, num_outputs=2)
    boxes = net.op("Add", net.op("Mul", boxes, net.const(8.0)), net.weight(1, 1, 144))
    joined = net.op("Concat", boxes, net.op("Sigmoid", scores), axis=1)
    return net.model(net.op("Transpose", joined, perm=[0, 2, 1]))


def joined_heads() -> Model:
    net = Net(x=(1, 8, 12, 12))
    x = net.conv("x", 16)
    joined = net.op("Reshape", net.op("Concat", net.conv(x, 8), net.conv(x, 4), axis=1), net.ints(1, 12, 144))
    boxes, scores = net.ops("Split", joined, count=2, axis=1, num_outputs=2)
    return net.model(net.op("Exp", boxes), net.op("Sigmoid", scores))


def test_the_tail_of_a_detector_stays_float() -> None:
    plan = annotate(quantized(detector(), XNNPACK, normal=False).graph.graph, XNNPACK)
    kinds = {n.op_type: n.precision for n in plan.nodes.values()}
    assert all(kinds[op] == "float" for op in ("Mul", "Add", "Sigmoid", "Concat", "Transpose"))
    assert kinds["Reshape"] == kinds["Split"] == "int8", "copies of one result are a quarter of the bytes"
    plan = annotate(quantized(joined_heads(), XNNPACK, normal=False).graph.graph, XNNPACK)
    kinds = {n.op_type: n.precision for n in plan.nodes.values()}
    assert all(kinds[op] == "float" for op in ("Concat", "Reshape", "Split", "Sigmoid"))


def test_a_sum_that_is_the_result_is_codes_but_not_one_with_the_input() -> None:
    net = Net(x=(1, 8, 12, 12))
    m = quantized(net.model(net.op("Add", net.conv("x", 8), net.conv("x", 8))), XNNPACK)
    assert m.precision("Add_2") == "int8"
    net = Net(x=(1, 8, 12, 12))
    m = quantized(net.model(net.op("Sub", "x", net.conv("x", 8))), XNNPACK)
    assert m.precision("Sub_1") == "float"


def test_operators_of_onnx() -> None:
    assert all(onnx.defs.has(rule.op, rule.domain) for accepts in CONTRACTS.values() for rule in accepts.operators)
