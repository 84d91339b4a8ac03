"""A test for each rule of the contract; where the compiler is installed, what is quantized runs in INT8."""

from __future__ import annotations

import numpy as np
import pytest
from flow import Quantized, quantized, samples, worst_sqnr
from graphs import Net, residual

from dsedge.backends.tensorrt import oracle
from dsedge.backends.tensorrt.contract import contract
from dsedge.backends.tensorrt.graphs import fp32_graph, typed_graph
from dsedge.errors import LoadError
from dsedge.model import Model
from dsedge.quant.precision import parse_request, require_available
from dsedge.target import load_target

A100 = contract(load_target("a100"))
IMAGE = (1, 32, 16, 16)
compiles = pytest.mark.skipif(oracle.version() is None, reason="tensorrt-rtx is not installed")


def made(source: Model) -> Quantized:
    return quantized(source, A100)


def quantizers(m: Quantized) -> set[str]:
    """The values that are read through a pair."""
    return {n.inputs[0].name or "" for n in m.model.graph if n.op_type == "QuantizeLinear" and n.inputs[0] is not None}


def test_numbers_are_symmetric_and_biases_float() -> None:
    m = made((net := Net(x=IMAGE)).model(net.conv(net.conv("x", 32, act="Relu"), 48)))
    for value in m.plan.values.values():
        assert value.qparams is not None and value.qparams.dtype == "int8" and value.qparams.zero_point == 0
    for node in m.model.graph:
        if node.op_type == "Conv":
            assert node.inputs[2] is not None and node.inputs[2].const_value is not None
            weights = node.inputs[1].producer()  # type: ignore[union-attr]
            assert weights is not None and weights.attributes.get_int("axis", 1) == 0


@pytest.mark.parametrize("act", ["Relu", "Relu6", "SiLU", "HardSwish"])
def test_nothing_stands_between_a_convolution_and_its_activation(act: str) -> None:
    m = made((net := Net(x=IMAGE)).model(net.conv(net.conv("x", 32, act=act), 32)))
    (behind,) = quantizers(m) - {"x"}
    assert not behind.startswith(("conv", "sigmoid"))


def test_a_sum_reads_its_skip_input_as_codes() -> None:
    m = made(residual())
    sums = [n for n in m.plan.nodes.values() if n.op_type == "Add"]
    assert [(n.precision, len(n.inputs)) for n in sums] == [("int8", 1)] * len(sums)


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_paths_with_convolutions_the_longer_stays_float(swapped: bool) -> None:
    net = Net(x=IMAGE)
    stem = net.conv("x", 32, act="Relu")
    if swapped:  # the order of the nodes decides nothing
        short, long = net.conv(stem, 32, 1), net.conv(net.conv(stem, 32, act="SiLU"), 32)
    else:
        long, short = net.conv(net.conv(stem, 32, act="SiLU"), 32), net.conv(stem, 32, 1)
    m = made(net.model(net.conv(net.op("Relu", net.op("Add", short, long)), 32)))
    assert short in quantizers(m) and long not in quantizers(m)


def test_a_sum_without_a_convolution_stays_float() -> None:
    net = Net(x=(1, 16, 32))
    y = net.op("Add", net.op("MatMul", "x", net.weight(32, 32)), "x")
    assert "no convolution" in made(net.model(net.op("MatMul", y, net.weight(32, 32)))).reason("Add_1")


def test_a_sum_that_repeats_one_term_or_ends_a_float_convolution_stays_float() -> None:
    net = Net(x=IMAGE)
    stem = net.conv("x", 32, act="Relu")
    gate = net.conv(net.op("GlobalAveragePool", stem), 32, 1)
    narrow = net.conv(net.conv(stem, 8, act="Relu"), 8)
    repeated, float_sum = net.op("Add", stem, gate), net.op("Add", narrow, net.conv(stem, 8, 1))
    m = made(net.model(net.conv(repeated, 32), net.op("Relu", float_sum)))
    assert {n.precision for n in m.plan.nodes.values() if n.op_type == "Add"} == {"float"}


def pool(net: Net, x: str) -> str:
    return net.op("MaxPool", x, kernel_shape=[5, 5], pads=[2] * 4)


def joined(net: Net, *values: str) -> str:
    y = net.op("Concat", *values, axis=1)
    net.channels[y] = sum(net.channels[value] for value in values)
    return y


def test_what_only_moves_or_compares_values_has_no_quantizer_of_its_own() -> None:
    net = Net(x=IMAGE)
    x = net.conv(pool(net, net.conv("x", 32, act="Relu")), 32, act="Relu")
    y = net.conv(joined(net, x, net.conv("x", 32, act="Relu")), 32, act="Relu")
    m = made(net.model(net.head(net.op("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2]), 32)))
    assert {name.partition("_")[0] for name in quantizers(m)} == {"x", "maxpool", "concat"}


def pools() -> Model:
    """The pyramid of pools of YOLO, whose links are all read twice."""
    net = Net(x=IMAGE)
    x = net.conv("x", 32, act="SiLU")
    first = pool(net, x)
    return net.model(net.head(net.conv(joined(net, x, first, pool(net, first)), 32, 1, act="Relu"), 32))


def test_a_pyramid_of_pools_reads_codes_of_one_scale() -> None:
    m = made(pools())
    found = {n.op_type: n.precision for n in m.plan.nodes.values() if n.op_type in ("MaxPool", "Concat")}
    assert found == {"MaxPool": "int8", "Concat": "int8"}
    assert max(len(names) for names in m.plan.groups().values()) == 4, "the three that are joined, and what comes of it"


def test_densely_connected_layers_have_a_scale_each() -> None:
    net = Net(x=(1, 3, 32, 32))
    y = net.conv("x", 32, act="Relu")
    for _ in range(6):
        larger = net.op("Mul", net.conv(y, 32, act="Relu"), net.const(np.float32(3)))
        net.channels[larger] = 32
        y = joined(net, y, larger)
    m = made(net.model(net.conv(y, 32)))
    assert {n.precision for n in m.plan.nodes.values() if n.op_type == "Concat"} == {"float"}
    assert worst_sqnr(m.graph, m.model, samples(m.source, 4), optimize=False) > 20, "in one scale it is 7 dB"


@pytest.mark.parametrize(
    ("shape", "matrix", "says"),
    [
        ((4, 15), (15, 32), "side of 15"),
        ((4, 32), (32, 15), "side of 15"),
        ((1, 32), (32, 32), "one vector"),
        ((1, 1, 32), (32, 32), "one vector"),
        ((2, 1, 32), (32, 32), ""),
        (("N", 32), (32, 32), ""),
    ],
)
def test_small_products_stay_float(shape: tuple[int | str, ...], matrix: tuple[int, int], says: str) -> None:
    m = quantized((net := Net(x=shape)).model(net.op("MatMul", "x", net.weight(*matrix))), A100, normal=False)
    assert m.precision("MatMul_0") == ("float" if says else "int8")
    assert says in m.reason("MatMul_0")


def test_few_channels_stay_float_but_in_the_first_convolution() -> None:
    net = Net(x=(1, 3, 16, 16))
    y = net.conv(net.conv("x", 16, act="Relu"), 8, act="Relu")
    m = made(net.model(net.conv(net.conv(y, 16, 1, act="Relu"), 16, group=16)))
    convolutions = [n.precision for n in m.plan.nodes.values() if n.op_type == "Conv"]
    assert convolutions == ["int8", "float", "float", "int8"]


def attention() -> Model:
    net = Net(x=(1, 32, 64))
    q, k, v = (net.op("MatMul", "x", net.weight(64, 64, fan_in=64)) for _ in range(3))
    scores = net.op("Mul", net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 1])), net.const(0.125))
    y = net.op("MatMul", net.op("MatMul", net.op("Softmax", scores), v), net.weight(64, 64, fan_in=64))
    y = net.op("LayerNormalization", y, net.const(np.ones(64, np.float32)), net.const(np.zeros(64, np.float32)))
    y = net.op("Gelu", net.op("MatMul", y, net.weight(64, 128, fan_in=64)))
    return net.model(net.op("MatMul", y, net.weight(128, 64, fan_in=128)))


def test_attention_normalization_and_gelu_stay_float() -> None:
    kinds = {"int8": 0, "float": 0}
    for plan in made(attention()).plan.nodes.values():
        if plan.op_type in ("MatMul", "Gemm"):
            kinds[plan.precision] += 1
        elif plan.op_type in ("Softmax", "LayerNormalization", "Gelu"):
            assert plan.precision == "float"
    assert kinds == {"int8": 6, "float": 2}


def kinds_of_convolution(rank: int, **attributes: int) -> Model:
    net = Net(x=(1, 32, *[8] * rank))
    return net.model(net.conv(net.conv("x", 32, act="Relu", rank=rank), 32, act="Relu", rank=rank, **attributes))


def transposed() -> Model:
    net = Net(x=IMAGE)
    y = net.op("ConvTranspose", net.conv("x", 32, act="Relu"), net.weight(32, 32, 2, 2), strides=[2, 2])
    net.channels[y] = 32
    return net.model(net.conv(net.op("Relu", y), 32))


def test_deconvolutions_stay_float() -> None:
    assert made(transposed()).precision("ConvTranspose_2") == "float"


@compiles
@pytest.mark.parametrize(
    "source",
    [
        residual(),
        pools(),
        attention(),
        transposed(),
        kinds_of_convolution(1),
        kinds_of_convolution(3),
        kinds_of_convolution(2, group=32),
        kinds_of_convolution(2, group=4),
    ],
    ids=["residual", "pools", "attention", "transposed", "1-D", "3-D", "depthwise", "grouped"],
)
def test_the_compiler_runs_what_is_quantized_in_int8(source: Model) -> None:
    m = made(source)
    heavy = [n for n in m.plan.nodes.values() if n.op_type in ("Conv", "Gemm", "MatMul")]
    open_shapes = {s.name: s.shape for s in source.inputs if s.shape and "N" in s.shape}
    profiles = {
        name: (tuple(1 if d == "N" else int(d or 1) for d in shape),) * 3 for name, shape in open_shapes.items()
    }
    for graph in (fp32_graph(m.model), typed_graph(m.model)[0]):
        verdict = oracle.check(graph, "8.0", profiles=profiles)
        assert verdict.accepted, (verdict.errors, verdict.failure)
        assert oracle.coverage(verdict, [n.name for n in heavy if n.precision == "int8"])[1] == {}


@compiles
def test_pools_in_a_row_are_computed_once() -> None:
    verdict = oracle.check(typed_graph(made(pools()).model)[0], "8.0")
    assert [layer.on_codes for layer in verdict.layers if layer.kind == "maxpool"] == [True, True]


@pytest.mark.parametrize(
    ("board", "has", "lacks"),
    [
        ("a100", {"int8", "fp16", "fp32", "int4"}, {"fp8", "int8_dynamic"}),
        ("jetson", {"int8", "fp16", "fp32", "int4"}, {"fp8", "int8_dynamic"}),
        ("t4", {"int8", "fp16", "fp32"}, {"fp8", "int4", "bf16"}),
        ("jetson-xavier-nx", {"int8", "fp16", "fp32"}, {"fp8", "int4", "bf16"}),
    ],
)
def test_precisions_that_a_gpu_lacks_are_refused_with_the_reason(board: str, has: set[str], lacks: set[str]) -> None:
    found = contract(load_target(board))
    for precision in has:
        require_available(parse_request(precision), found)
    for precision in lacks:
        with pytest.raises(LoadError) as error:
            require_available(parse_request(precision), found)
        assert error.value.code == "DS146"
        assert error.value.because


def test_a_board_without_an_nvidia_gpu_is_refused() -> None:
    with pytest.raises(LoadError, match="DS144"):
        contract(load_target("pos-x86"))
