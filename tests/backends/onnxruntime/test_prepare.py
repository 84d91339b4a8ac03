"""A transposed convolution written as a convolution: exact in float, INT8 in the runtime, told to the user."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from flow import contract, executed, quantized, run, samples, worst_sqnr
from graphs import Net

from dsedge.backends import onnxruntime as backend
from dsedge.backends.onnxruntime import prepare
from dsedge.backends.onnxruntime.sub_pixel import obstacle, split_axis
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.precision import annotate_as_asked, parse_request, require_matches
from dsedge.target import load_target
from dsedge.verify import predictor

PADS = ((0, 0, 0, 0), (1, 1, 1, 1), (1, 0, 0, 1), (2, 1, 2, 2), (3, 0, 0, 2))


def up(
    kernel: int = 2, stride: int = 2, out: int = 6, *, act: str = "", batch: int | str = 1, **attributes: object
) -> Net:
    """A net whose last node is a ConvTranspose of 4 channels, with `act` behind it."""
    net = Net(x=(batch, 4, 5, 6))
    operands = ["x", net.weight(4, out // attributes.get("group", 1), kernel, kernel), net.weight(out, fan_in=6)]
    net.act(act, net.op("ConvTranspose", *operands, strides=[stride, stride], **attributes))
    return net


def result(net: Net) -> Model:
    return net.model(net.nodes[-1].output[0])


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(("kernel", "stride"), [*product((1, 2, 3, 4, 5), (2, 3))])
def test_it_computes_the_same_in_float(kernel: int, stride: int) -> None:
    tried = 0
    for pads, extra in product(PADS, ((0, 0), (1, 0), (1, 1))):
        if any(4 * stride + kernel + extra[i] - pads[i] - pads[i + 2] <= 0 for i in range(2)):
            continue
        graph = normalize(result(up(kernel, stride, pads=pads, output_padding=extra)))[0].graph
        prepared = prepare(graph)
        assert "ConvTranspose" not in ops(prepared)
        (expected,), (got,) = ([*run(m, samples(result(up()), 2))] for m in (graph, prepared))
        np.testing.assert_allclose(got, expected, atol=1e-5)
        tried += 1
    assert tried >= 9


def test_it_multiplies_no_more_numbers_where_the_stride_divides_the_kernel() -> None:
    for kernel, stride, begin in product((2, 3, 4, 6), (2, 3), (0, 1, 2)):
        if kernel % stride == 0:
            assert split_axis(kernel, stride, (begin, begin), 0).taps.size == kernel


def test_nothing_is_cropped_that_need_not_be() -> None:
    assert split_axis(2, 2, (0, 0), 0).surplus == 0
    axis = split_axis(3, 2, (1, 1), 1)
    assert (axis.crop, axis.surplus, axis.pads) == (0, 0, (0, 1))


def test_a_batch_of_any_size_and_the_names_of_what_stays() -> None:
    source = result(up(3, act="Relu", batch="N", pads=[1, 1, 1, 1]))
    graph = normalize(source)[0].graph
    prepared = prepare(graph)
    assert ops(graph) == ["ConvTranspose", "Relu"], "the graph that came is left as it was"
    assert [(n.op_type, n.name) for n in prepared.graph] == [
        ("Conv", "ConvTranspose_0_sub_pixel"),
        ("Relu", "Relu_1"),
        ("DepthToSpace", "ConvTranspose_0_depth_to_space"),
        ("Slice", "ConvTranspose_0_crop"),
    ]
    assert [v.name for v in prepared.graph.outputs] == [v.name for v in graph.graph.outputs]
    assert prepared.graph.outputs[0].shape == graph.graph.outputs[0].shape
    x = {"x": np.random.default_rng(0).standard_normal((3, 4, 5, 6)).astype(np.float32)}
    np.testing.assert_allclose(predictor(prepared)(x)[0], predictor(graph)(x)[0], atol=1e-5)


def test_a_value_that_others_read_too_keeps_its_name() -> None:
    net = up(act="Relu")
    graph = normalize(net.model("convtranspose_0", "relu_1"))[0].graph
    prepared = prepare(graph)
    assert ops(prepared) == ["Conv", "DepthToSpace", "Relu"]
    batches = samples(result(net), 1)
    for expected, got in zip(run(graph, batches), run(prepared, batches), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (up(out=3), "with 3 output channels an INT8 convolution in its place would be slower"),
        (up(group=2, out=8), "its channels are in groups"),
        (up(dilations=[2, 2]), "its kernel is dilated"),
        (up(stride=1, kernel=3), "DepthToSpace needs one stride of 2 or more for both axes"),
        (up(auto_pad="SAME_UPPER"), "its padding follows from the shape of its output"),
        (up(output_shape=[10, 12]), "its padding follows from the shape of its output"),
    ],
)
def test_what_stays_a_transposed_convolution_and_why(net: Net, reason: str) -> None:
    graph = normalize(result(net))[0].graph
    assert prepare(graph) is graph
    assert obstacle(graph.graph[0]) == reason
    told = annotate(graph.graph, contract()).nodes["ConvTranspose_0"].reason
    assert told == f"ONNX Runtime has no INT8 kernel for it, and {reason}"


def in_a_net() -> Model:
    """Down, up by a transposed convolution that crops, joined with what came before."""
    net = Net(x=(1, 8, 12, 12))
    x = net.conv("x", 16, act="Relu")
    down = net.conv(x, 16, act="Relu", strides=[2, 2])
    y = net.op("ConvTranspose", down, net.weight(16, 16, 4, 4), net.weight(16), strides=[2, 2], pads=[1, 1, 1, 1])
    joined = net.op("Concat", y, x, axis=1)
    net.channels[joined] = 32
    return net.model(net.conv(joined, 8))


@pytest.mark.parametrize("target", ["pos-x86", "raspberry-pi-5"])
def test_the_runtime_computes_all_of_it_on_codes(target: str, tmp_path: Path) -> None:
    source, board = in_a_net(), load_target(target)
    prepared = prepare(normalize(source)[0].graph)
    m = quantized(source.with_graph(prepared), backend.contract(board), normal=False)
    new = [node for node in m.plan.nodes.values() if node.name.startswith("ConvTranspose_4_")]
    assert [node.op_type for node in new] == ["Conv", "DepthToSpace", "Slice"]
    assert all(n.precision == "int8" and n.reason.endswith("; in place of ConvTranspose ConvTranspose_4") for n in new)
    artifact = backend.build(m.model, tmp_path)
    assert backend.audit(artifact, m.plan, board).unmatched == {}
    if target == "pos-x86":
        graph = executed(artifact.main, tmp_path)
        assert not {"ConvTranspose", "DepthToSpace", "Conv"} & {node.op_type for node in graph}
    assert worst_sqnr(prepared, m.model, samples(source, 4, seed=1)) > 25


def test_a_request_for_the_layer_holds_for_what_stands_in_its_place() -> None:
    prepared = prepare(normalize(in_a_net())[0].graph).graph
    for name in ("ConvTranspose", "ConvTranspose_4"):
        asked = parse_request(f"int8,{name}=fp32")
        require_matches(asked, prepared, contract())
        plan = annotate_as_asked(prepared, contract(), asked)
        assert {n.name for n in plan.nodes.values() if n.precision == "float"} == {
            f"ConvTranspose_4_{part}" for part in ("sub_pixel", "depth_to_space", "crop")
        }
