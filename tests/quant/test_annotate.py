from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from flow import VARIANTS, contract, quantized
from graphs import GRAPHS, Net, as_model, branches, chain, concat, detector, inception, lstm, residual, tapped

from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.contract import Contract, OpRule, follows
from dsedge.quant.plan import QuantPlan


def planned(model: Model, accepts: Contract | None = None, **lifted: str) -> QuantPlan:
    return annotate(normalize(model)[0].graph.graph, accepts or contract(), lifted=lifted)


def image() -> Net:
    return Net(x=("N", 8, 12, 12))


def precisions(plan: QuantPlan, op_type: str) -> list[str]:
    return [node.precision for node in plan.nodes.values() if node.op_type == op_type]


@pytest.mark.parametrize("key", GRAPHS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_node_has_a_reason_and_every_value_a_reader_or_writer(variant: str, key: str) -> None:
    graph = normalize(GRAPHS[key]())[0].graph.graph
    plan = annotate(graph, contract(variant))
    assert list(plan.nodes) == [node.name for node in graph]
    assert all(node.reason for node in plan.nodes.values())
    int8 = [node for node in plan.nodes.values() if node.precision == "int8"]
    touched = {name for node in int8 for name in (*node.reads, node.result)}
    touched |= {out.name for node in graph if plan.nodes[node.name].precision == "int8" for out in node.outputs}
    assert set(plan.values) <= touched
    for node in int8:
        assert set(node.reads) <= set(plan.values)
        assert node.head is None or plan.nodes[node.head].precision == "int8"
    assert {name for names in plan.groups().values() for name in names} == set(plan.values)


def test_an_activation_is_fused_and_has_no_value_of_its_own() -> None:
    plan = planned(residual())
    fused = {node.name: node.head for node in plan.nodes.values() if node.head}
    heads = ["Conv_0", "Conv_2", "Add_5", "Conv_7", "Add_10"]
    assert fused == {"Relu_1": "Conv_0", "Relu_3": "Conv_2", "Relu_6": "Add_5", "Relu_8": "Conv_7", "Relu_11": "Add_10"}
    assert all(f"fused into {head}" in {n.reason for n in plan.nodes.values()} for head in heads)
    assert not {"conv_0", "conv_2", "add_5"} & set(plan.values)


def test_an_activation_is_not_fused_when_something_else_sees_its_input() -> None:
    plan = planned(tapped())
    assert plan.nodes["Relu_1"].head is None
    assert {"conv_0", "relu_1"} <= set(plan.values)


def test_what_lies_behind_the_last_heavy_operator_stays_float() -> None:
    plan = planned(detector())
    assert precisions(plan, "Conv") == ["int8"] * 3
    tail = [node for node in plan.nodes.values() if node.op_type in ("Sigmoid", "Reshape", "Concat")]
    assert len(tail) == 4
    for node in tail:
        assert node.precision == "float"
        assert "nothing INT8 comes behind it" in node.reason
    assert not any("concat" in name for name in plan.values)


def test_what_lies_before_the_first_heavy_operator_stays_float() -> None:
    net = image()
    scaled = net.op("Mul", "x", net.op("Sigmoid", "x"))
    net.channels[scaled] = 8
    plan = planned(net.model(net.conv(scaled, 8)))
    assert precisions(plan, "Mul") == precisions(plan, "Sigmoid") == ["float"]
    assert "no INT8 value reaches it" in plan.nodes["Mul_1"].reason


def test_values_that_are_moved_or_selected_form_one_tie_group() -> None:
    groups = [set(names) for names in planned(inception()).groups().values()]
    joined = {"relu_1", "relu_4", "relu_6", "maxpool_7", "concat_8", "maxpool_9"}
    assert joined in groups
    assert {"x"} in groups
    assert {"averagepool_2"} in groups, "an average has a scale of its own"


def test_add_and_mul_keep_scales_of_their_own() -> None:
    groups = planned(residual()).groups().values()
    assert all(len(names) == 1 for names in groups)


def test_what_a_runtime_wants_symmetric_is_and_so_is_its_group() -> None:
    net = Net(x=(1, 6, 32))
    first, second = (net.op("Relu", net.op("MatMul", "x", net.weight(32, 32, fan_in=32))) for _ in range(2))
    turned = net.op("Transpose", second, perm=[0, 2, 1])
    product = OpRule("MatMul", "compute", (0, 1), symmetric=(1,), only=lambda n: n.inputs[1].const_value is None)
    weighted = OpRule("MatMul", "compute", (0,), (1,), 1)
    accepts = contract()
    accepts = replace(accepts, operators=(product, weighted, *accepts.operators))
    m = quantized(net.model(net.op("MatMul", first, turned)), accepts, normal=False)
    assert {name for name, v in m.plan.values.items() if v.symmetric} == {turned}
    assert m.plan.values[turned].group == m.plan.values[second].group
    assert m.plan.values[turned].qparams is m.plan.values[second].qparams
    low, high = m.plan.values[second].range
    assert low == 0.0 and m.plan.values[second].qparams.zero_point == 128
    assert m.plan.values[second].qparams.scale == pytest.approx(high / 127)
    assert m.plan.values[first].qparams.zero_point == 0


def test_a_lifted_node_keeps_its_reason_and_its_company_follows() -> None:
    plan = planned(concat(), Conv_7="lifted by a test")
    assert plan.nodes["Conv_7"].precision == "float"
    assert plan.nodes["Conv_7"].reason == "lifted by a test"
    for follower, why in (("Relu_8", "no INT8 value reaches it"), ("Concat_6", "nothing INT8 comes behind it")):
        assert plan.nodes[follower].precision == "float"
        assert why in plan.nodes[follower].reason
    assert precisions(plan, "Conv") == ["int8", "int8", "int8", "float"]


@pytest.mark.parametrize(("variant", "precision"), [("x86-vnni", "float"), ("arm-dotprod", "int8")])
def test_a_light_stem_begins_int8_only_where_that_pays(variant: str, precision: str) -> None:
    net = Net(x=("N", 3, 12, 12))
    plan = planned(net.model(net.conv(net.conv("x", 16, act="Relu"), 16)), contract(variant))
    assert plan.nodes["Conv_0"].precision == plan.nodes["Relu_1"].precision == precision
    assert plan.nodes["Conv_2"].precision == "int8"
    assert ("x" in plan.values) == (precision == "int8")
    assert "relu_1" in plan.values


def test_a_weight_that_is_computed_leaves_its_node_float() -> None:
    net = Net(x=("N", 8, 12, 12), w=(8, 8, 3, 3))
    plan = planned(net.model(net.op("Conv", "x", "w"), net.op("Add", net.conv("x", 8), net.conv("x", 8))))
    assert plan.nodes["Conv_0"].precision == "float"
    assert "input 1, its weight, is not a constant" in plan.nodes["Conv_0"].reason
    assert plan.nodes["Conv_1"].precision == "int8"


def test_only_float32_is_quantized() -> None:
    net = image()
    proto = net.proto(net.conv("x", 8))
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
        )
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    plan = planned(as_model(proto))
    assert plan.nodes["Conv_0"].precision == "float"
    assert "DOUBLE" in plan.nodes["Conv_0"].reason
    assert not plan.quantized


def test_a_condition_of_the_contract_gives_the_reason() -> None:
    rules = tuple(
        replace(r, when=(lambda node: f"{node.name} has an odd name",)) if r.op == "Add" else r
        for r in contract().operators
    )
    plan = planned(residual(), replace(contract(), operators=rules))
    assert plan.nodes["Add_5"].reason == "Add_5 has an odd name"
    assert plan.nodes["Relu_6"].head is None


def test_an_operator_of_another_domain_is_another_operator() -> None:
    net = image()
    y = net.conv("x", 8)
    graph = net.model(y).graph
    graph.graph[0].domain = "com.example"
    plan = annotate(graph.graph, contract())
    assert plan.nodes["Conv_0"].precision == "float"
    assert plan.nodes["Conv_0"].reason == contract().otherwise


def test_a_recurrent_layer_is_dynamic_and_needs_no_calibration() -> None:
    plan = planned(lstm())
    node = plan.nodes["LSTM_0"]
    assert node.precision == "int8_dynamic"
    assert (node.inputs, node.weights, node.output) == ((), (1, 2), False)
    assert plan.values == {}
    assert plan.quantized


def test_integers_are_neither_int8_nor_float() -> None:
    net = Net(x=("N", "C", 12, 12))
    net.channels["x"] = 8
    y = net.conv("x", 8)
    size = net.op("Gather", net.op("Shape", y), net.ints(0))
    plan = planned(net.model(y, net.op("Add", size, net.ints(1)), types={"add_3": onnx.TensorProto.INT64}))
    shapes = [node for node in plan.nodes.values() if node.op_type in ("Shape", "Gather", "Add")]
    assert [node.precision for node in shapes] == ["integer"] * 3


def test_bodies_are_left_alone() -> None:
    made = quantized(branches())
    assert made.precision("If_4") == "float"
    assert len(made.plan.nodes) == len(made.graph.graph)
    for before, after in zip(_bodies(made.graph), _bodies(made.model), strict=True):
        assert [n.op_type for n in before] == [n.op_type for n in after]


def _bodies(model: ir.Model) -> list[ir.Graph]:
    return [a.as_graph() for n in model.graph if n.op_type == "If" for a in n.attributes.values()]


def test_the_limits_of_a_clip_are_no_activations() -> None:
    net = image()
    y = net.conv("x", 16)
    joined = net.op("Add", net.act("Relu6", y), y)
    net.channels[joined] = 16
    plan = planned(net.model(net.conv(joined, 8)))
    assert plan.nodes["Clip_1"].inputs in ((), (0,))


def test_int8_reaches_from_inputs_that_come_as_codes() -> None:
    net = Net(image=(1, 3, 12, 12), other=(1, 3, 12, 12))
    turned = net.op("Transpose", net.op("Add", "image", net.const(-1.0)), perm=[0, 1, 3, 2])
    net.channels[turned] = 3
    outputs = net.conv(turned, 8), net.conv(net.op("Sub", "other", net.const(1.0)), 8)
    graph = normalize(net.model(*outputs))[0].graph.graph
    accepts = replace(contract(), operators=(*follows("Add Sub", inputs=None), *contract().operators))
    moves = ("Add_0", "Transpose_1", "Sub_3")
    for codes, expected in (((), ["float"] * 3), (("image",), ["int8", "int8", "float"])):
        plan = annotate(graph, accepts, codes=codes)
        assert [plan.nodes[name].precision for name in moves] == expected
        assert ("image" in plan.values) == bool(codes)


def test_nothing_to_quantize() -> None:
    net = image()
    plan = planned(net.model(net.op("Exp", "x")))
    assert not plan.quantized
    assert plan.values == {}


def test_annotate_changes_nothing() -> None:
    graph = normalize(chain())[0].graph
    before = ir.to_proto(graph).SerializeToString()
    annotate(graph.graph, contract())
    assert ir.to_proto(graph).SerializeToString() == before
