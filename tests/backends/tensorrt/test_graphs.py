"""The two portable graphs compute what the one Q/DQ graph says, and their formats hold what is in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from flow import quantized, samples
from graphs import Net, image, residual

from dsedge.backends.tensorrt import graphs, oracle
from dsedge.backends.tensorrt.contract import contract
from dsedge.backends.tensorrt.graphs import float_ranges, fp32_graph, portable_graphs, typed_graph
from dsedge.backends.tensorrt.lint import lint
from dsedge.backends.tensorrt.scales import half_scale, recoded
from dsedge.data import Batch
from dsedge.errors import BuildError
from dsedge.model import Model
from dsedge.passes import discover
from dsedge.passes.normalize import normalize
from dsedge.quant.blocks import block_qparams
from dsedge.quant.insert import insert
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import annotate_as_asked, parse_request
from dsedge.target import load_target

A100 = contract(load_target("a100"))
compiles = pytest.mark.skipif(oracle.version() is None, reason="tensorrt-rtx is not installed")


def shaped(model: Model) -> ir.Model:
    """As it is written, with shapes."""
    graph = model.graph.clone()
    discover()["infer-shapes"]()(graph)
    return graph


def compare(reference: ir.Model, graph: ir.Model, batches: Sequence[Batch]) -> float:
    return graphs.compare(reference, [graph], batches)[0].decibel


def types(model: ir.Model, op_type: str) -> list[ir.DataType | None]:
    return [node.outputs[0].dtype for node in model.graph if node.op_type == op_type]


def kept(source: Model, *, scale: float = 1.0) -> dict[str, str]:
    """The nodes that stay in float32; the graph computes what the float one does."""
    model = shaped(source)
    batches = [replace(b, feeds={n: scale * a for n, a in b.feeds.items()}) for b in samples(source, 2)]
    typed, found = typed_graph(model, ranges=float_ranges(model, batches))
    assert compare(model, typed, batches) > 45
    assert [v.dtype for v in (*typed.graph.inputs, *typed.graph.outputs)] == [ir.DataType.FLOAT] * 2
    assert [v.name for v in typed.graph.outputs] == [v.name for v in model.graph.outputs]
    return found


LATER: dict[str, Callable[[Net], str]] = {
    "Gelu": lambda net: net.op("Gelu", "x"),
    "Gelu tanh": lambda net: net.op("Gelu", "x", approximate="tanh"),
    "Mish": lambda net: net.op("Mish", "x"),
    "HardSwish": lambda net: net.op("HardSwish", "x"),
    "LayerNormalization": lambda net: net.op("LayerNormalization", "x", net.weight(6), net.weight(6)),
    "LayerNormalization of two axes": lambda net: net.op("LayerNormalization", "x", net.weight(4, 6), axis=-2),
    "ReduceMean": lambda net: net.op("ReduceMean", "x", net.ints(2), keepdims=0),
    "ReduceMax of all": lambda net: net.op("ReduceMax", "x"),
    "Split": lambda net: net.op("Concat", *net.ops("Split", "x", count=2, axis=3, num_outputs=2)[::-1], axis=3),
    "Pad": lambda net: net.op("Pad", "x", net.ints(1, 0, 2, 1), net.const(0.5), net.ints(3, 1)),
    "Resize": lambda net: net.op("Resize", "x", "", net.const([2.0, 3.0]), axes=[2, 3], antialias=0),
    "Resize to sizes": lambda net: net.op("Resize", "x", "", "", net.ints(8, 12), axes=[2, 3]),
    "AveragePool": lambda net: net.op("AveragePool", "x", kernel_shape=[2, 2], dilations=[1, 1]),
    "Cast": lambda net: net.op("Cast", "x", to=1, saturate=1),
}


@pytest.mark.parametrize("key", LATER)
def test_later_operators_are_written_in_opset_17(key: str) -> None:
    net = Net(x=(1, 5, 4, 6))
    source = net.model(net.op("Neg", LATER[key](net)))
    model = shaped(source)
    lowered = fp32_graph(model)
    assert (lowered.opset_imports[""], lowered.ir_version) == (17, 8)
    assert compare(model, lowered, samples(source, 2)) > 110
    assert model.opset_imports[""] == 20


@pytest.mark.parametrize("key", ["Pad", "Resize", "Resize to sizes"])
def test_the_typed_graph_says_all_axes(key: str) -> None:
    net = Net(x=(1, 5, 4, 6))
    source = net.model(net.op("Neg", LATER[key](net)))
    typed, _ = typed_graph(shaped(source))
    (node,) = [node for node in typed.graph if node.op_type in ("Pad", "Resize")]
    assert "axes" not in node.attributes and (node.op_type == "Resize" or len(node.inputs) == 3)
    assert compare(shaped(source), typed, samples(source, 2)) > 45


@pytest.mark.parametrize(
    "write",
    [
        lambda net: net.op("Pad", "x", net.ints(0, 0, 0, 1, 0, 0, 0, 1), mode="wrap"),
        lambda net: net.op("AveragePool", "x", kernel_shape=[2, 2], dilations=[2, 2]),
        lambda net: net.op("Resize", "x", "", net.const([1.0, 1.0, 0.5, 0.5]), mode="linear", antialias=1),
        lambda net: net.op("GroupNormalization", "x", net.weight(2), net.weight(2), num_groups=2),
        lambda net: net.op("ScatterElements", "x", net.op("Cast", "x", to=7), "x", reduction="max"),
    ],
)
def test_what_opset_17_cannot_say_is_refused(write: Callable[[Net], str]) -> None:
    net = Net(x=(1, 4, 4, 6))
    with pytest.raises(BuildError, match="DS401") as caught:
        fp32_graph(shaped(net.model(write(net))))
    assert caught.value.where


def test_both_graphs_compute_what_the_quantized_one_says() -> None:
    m = quantized(source := residual(), A100)
    batches = samples(source)
    reached = compare(m.graph, m.model, batches)
    typed, found = typed_graph(m.model, ranges=float_ranges(m.graph, batches))
    assert compare(m.model, fp32_graph(m.model), batches) > 100
    assert compare(m.graph, typed, batches) > reached - 1
    assert not found
    assert set(types(typed, "Conv")) == {ir.DataType.FLOAT16}
    scales = [node.inputs[1] for node in typed.graph if node.op_type == "DequantizeLinear"]
    assert {scale.dtype for scale in scales if scale is not None} == {ir.DataType.FLOAT16}


def test_sums_and_squares_stay_in_float32() -> None:
    net = Net(x=(1, 8, 64))
    y = net.op("LayerNormalization", net.op("MatMul", "x", net.weight(64, 64)), net.weight(64))
    found = kept(net.model(net.op("Relu", net.op("ReduceL2", y, net.ints(2)))), scale=100)
    assert set(found) == {"LayerNormalization_1", "ReduceL2_2"}


def test_what_comes_near_the_greatest_float16_stays_in_float32() -> None:
    net = Net(x=(1, 8))
    y = net.op("Div", net.op("Mul", "x", net.const(300.0)), net.const(1000.0))
    found = kept(net.model(net.op("Relu", y)), scale=500)
    assert set(found) == {"Mul_0", "Div_1"}
    assert "65504" in found["Mul_0"]


def test_constants_that_float16_does_not_hold_stay_in_float32_but_for_infinities() -> None:
    net = Net(x=(1, 8))
    y = net.op("Div", "x", net.op("Add", net.op("Abs", "x"), net.const(1e-12)))
    y = net.op("Add", y, net.const(np.array([0, -3e38, 0, 0, -1e9, 0, 0, 0], np.float32)))
    source = net.model(net.op("Softmax", y))
    assert set(kept(source)) == {"Add_1"}
    typed, _ = typed_graph(shaped(source), ir.DataType.BFLOAT16)
    constants = [v.const_value.numpy() for v in typed.graph.initializers.values() if v.const_value is not None]
    assert all(np.isfinite(array.astype(np.float32)).all() for array in constants)


def test_operators_that_read_float32_alone_are_given_it() -> None:
    net = Net(x=(1, 4, 4, 4))
    source = net.model(net.op("Resize", net.op("Relu", "x"), "", net.const([1.0, 1.0, 2.0, 2.0])))
    assert not kept(source)


def test_bodies_of_control_flow_stay_in_float32() -> None:
    then, other = Net(prefix="then_"), Net(prefix="else_")
    graphs = [branch.proto(branch.op(op, "y"), types={}).graph for branch, op in ((then, "Relu"), (other, "Neg"))]
    net = Net(x=(1, 4))
    y = net.op("Mul", "x", net.const(2.0))
    net.nodes[-1].output[0] = "y"
    condition = net.op("Greater", net.op("ReduceMax", "y", keepdims=0), net.const(0.0))
    assert y
    kept(net.model(net.op("Neg", net.op("If", condition, then_branch=graphs[0], else_branch=graphs[1]))))


def test_a_scale_that_float16_rounds_coarsely_keeps_its_reader_in_float32() -> None:
    net = Net(x=(1, 32, 8, 8))
    source = net.model(net.conv(net.conv("x", 32, act="Relu"), 32))
    batches = [replace(b, feeds={n: a * 1e-4 for n, a in b.feeds.items()}) for b in samples(source)]
    m = quantized(source, A100, batches=batches)
    typed, found = typed_graph(m.model)
    assert set(found) == {"Conv_0"}
    assert "too small" in found["Conv_0"]
    assert compare(m.graph, typed, batches) > compare(m.graph, m.model, batches) - 1


def faint(*factors: float) -> Model:
    """A convolution whose first channels are multiplied by something."""
    net = Net(x=(1, 32, 8, 8))
    net.conv("x", 32)
    weights = np.random.default_rng(0).standard_normal((32, 32, 3, 3)).astype(np.float32)
    weights[: len(factors)] *= np.reshape(factors, (-1, 1, 1, 1)).astype(np.float32)
    net.nodes[-1].input[1] = net.const(weights)
    return net.model(net.nodes[-1].output[0])


def test_a_channel_without_weights_keeps_a_positive_scale() -> None:
    typed, _ = typed_graph(quantized(faint(0), A100).model)
    for node in typed.graph:
        if node.op_type == "DequantizeLinear":
            scale = node.inputs[1]
            assert scale is not None and scale.const_value is not None
            assert (scale.const_value.numpy() > 0).all()


@pytest.mark.parametrize("factor", [1e-3, 1e-4, 1e-5])
def test_channels_whose_scales_float16_rounds_coarsely_lose_nothing(factor: float) -> None:
    """Each channel by itself: in the whole tensor nothing of them is seen."""
    source = faint(*[factor] * 32)
    batches = [replace(b, feeds={n: 100 * a for n, a in b.feeds.items()}) for b in samples(source)]
    m = quantized(source, A100, batches=batches)
    typed, found = typed_graph(m.model)
    assert not found and set(types(typed, "Conv")) == {ir.DataType.FLOAT16}
    assert not lint(typed, "8.0")
    assert compare(m.graph, typed, batches) > compare(m.graph, m.model, batches) - 2


def test_weights_whose_scales_exceed_float16_stay_in_float32() -> None:
    source = faint(1e8)
    batches = samples(source)
    m = quantized(source, A100)
    typed, found = typed_graph(m.model)
    assert "too large" in found["Conv_0"]
    assert not lint(typed, "8.0")
    assert compare(m.graph, typed, batches) > compare(m.graph, m.model, batches) - 1


@pytest.mark.parametrize(("axis", "block"), [(0, 0), (1, 0), (0, 4), (1, 3)])
def test_codes_counted_anew(axis: int, block: int) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-7, 8, (8, 6)).astype(np.int8)
    shape = [-(-n // block) if i == axis else n for i, n in enumerate(codes.shape)] if block else codes.shape[axis]
    scale = np.float32(2e-7) * rng.uniform(0.2, 4, shape).astype(np.float32)
    half = half_scale(scale)
    whole = scale.repeat(block, axis) if block else np.expand_dims(scale, 1 - axis)
    steps = half.repeat(block, axis) if block else np.expand_dims(half, 1 - axis)
    found = recoded(codes, scale, half, axis, block) * steps.astype(np.float32)
    assert (half >= scale).all() and np.abs(found - codes * whole).max() <= steps.max() * 0.51


def test_a_graph_without_floats_has_no_ranges() -> None:
    net = Net(x=(1, 4))
    y = net.op("Add", net.op("Cast", "x", to=7), net.ints(1, 2, 3, 4))
    source = net.model(y, types={y: 7})
    assert not float_ranges(shaped(source), samples(source, 2))


def test_integer_outputs_are_compared_by_what_is_equal() -> None:
    def classes(seed: int) -> Model:
        net = image(seed=seed)
        y = net.op("ArgMax", net.conv("x", 16), axis=1)
        return net.model(y, types={y: 7})

    first, second = classes(0), classes(1)
    same, other = graphs.compare(shaped(first), [shaped(first), shaped(second)], samples(first, 2))
    assert same.equal == 1 and str(same) == "no distance from"
    assert other.equal < 0.5 and "% equal in outputs that are no floats" in str(other)


def in_blocks(k: int) -> tuple[ir.Model, ir.Model, QuantPlan, Model]:
    """A linear layer over k numbers, float and with what `int4` makes of it."""
    net = Net(x=(1, 16, k))
    source = net.model(net.op("Relu", net.op("MatMul", "x", net.weight(k, 48, fan_in=k))))
    graph = normalize(source)[0].graph
    plan = annotate_as_asked(graph.graph, A100, parse_request("int4"))
    assert A100.block is not None
    nodes = dict(plan.nodes)
    for node in graph.graph:
        one = nodes[node.name or ""]
        if one.precision == "int4":
            weight = node.inputs[1].const_value.numpy()  # type: ignore[union-attr]
            nodes[one.name] = replace(one, weight_qparams={1: block_qparams(weight, one.axis or 0, A100.block)})
    plan = replace(plan, nodes=nodes)
    return graph, insert(graph, plan, A100), plan, source


def test_int4_blocks_are_signed_in_the_typed_graph_alone() -> None:
    graph, blocked, _, source = in_blocks(128)
    typed, _ = typed_graph(blocked)
    assert typed.opset_imports[""] == 21
    (codes,) = [n.inputs[0] for n in typed.graph if n.op_type == "DequantizeLinear"]
    assert codes is not None and codes.dtype == ir.DataType.INT4
    assert compare(blocked, typed, samples(source)) > 50
    assert 10 < compare(graph, typed, samples(source)) < 30
    with pytest.raises(BuildError, match="DS401"):
        fp32_graph(blocked)
    assert list(portable_graphs(blocked)) == ["model.fp16.onnx"]
    assert list(portable_graphs(graph)) == ["model.fp32.onnx", "model.fp16.onnx"]


@pytest.mark.parametrize("k", [64, 96])
def test_int4_blocks_are_whole_and_more_than_one(k: int) -> None:
    assert not in_blocks(k)[2].quantized


@compiles
def test_the_compiler_reads_int4_weights_inside_of_the_product() -> None:
    typed, _ = typed_graph(in_blocks(128)[1])
    verdict = oracle.check(typed, "8.0")
    assert verdict.accepted, (verdict.errors, verdict.failure)
    assert [layer.kind for layer in verdict.layers if "Int4" in layer.constants] == ["runtime_fusion"]


@compiles
def test_bfloat16_is_a_type_as_float16_is() -> None:
    typed, _ = typed_graph(shaped(residual()), ir.DataType.BFLOAT16)
    assert set(types(typed, "Conv")) == {ir.DataType.BFLOAT16}
    verdict = oracle.check(typed, "8.0", profiles={"x": ((1, 8, 12, 12),) * 3})
    assert verdict.accepted, (verdict.errors, verdict.failure)
