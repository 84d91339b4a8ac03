"""Weights stored in another precision than activations: float16, and INT8 under float activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from graphs import Net
from onnx import TensorProto, helper, numpy_helper

import dsedge
from dsedge.backends.litert.contract import contract
from dsedge.backends.litert.emit import emit
from dsedge.errors import LoadError
from dsedge.quant.calibrate import assign_ranges
from dsedge.quant.contract import Contract
from dsedge.quant.insert import insert
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import annotate_as_asked, parse_request, require_available
from dsedge.target import load_target
from dsedge.verify import predictor
from tests.backends.litert.harness import inferred, interpreter

CONTRACT = contract(load_target("raspberry-pi-5"))
DIGITS = Path(__file__).parents[3] / "models" / "digits_cnn" / "digits_cnn.onnx"


def network() -> ir.Model:
    """A convolution, a depthwise one, a linear layer behind a Flatten, and one too small for dynamic codes."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "w": weights(32, 8, 3, 3),
        "b": weights(32),
        "d": weights(32, 1, 3, 3),
        "v": weights(64, 32 * 36),
        "c": weights(64),
        "u": weights(64, 10),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "d"], ["e"], name="depthwise", group=32, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["e"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "v", "c"], ["g"], name="linear", transB=1),
        helper.make_node("MatMul", ["g", "u"], ["y"], name="small"),
    ]
    fed = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 8, 6, 6))]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", fed, [helper.make_empty_tensor_value_info("y")], stored)
    return ir.from_proto(inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)))


def prepared(precision: str, used: Contract = CONTRACT) -> tuple[ir.Model, ir.Model, QuantPlan]:
    """The float network, the one with weights as asked, without any calibration, and the plan."""
    model = network()
    request = parse_request(precision)
    require_available(request, used)
    assert not request.calibrates
    plan = annotate_as_asked(model.graph, used, request)
    plan = assign_ranges(plan, model.graph, used, {}, "minmax")
    return model, insert(model, plan, used), plan


def sqnr(model: ir.Model, content: bytes) -> float:
    """How far a file is from a graph, in dB."""
    feeds = {"x": np.random.default_rng(1).normal(0, 1, (2, 8, 6, 6)).astype(np.float32)}
    expected = predictor(model, optimize=False)(feeds)[0]
    got = interpreter(content)(feeds)["y"]
    return float(10 * np.log10(np.square(expected).sum() / np.square(got - expected).sum()))


def operators(content: bytes) -> list[tuple[str, int, str]]:
    """Of a file: name, version and the type of the second input of each operator."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    types = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        second = types[graph.tensors[operator.inputs[1]].type] if len(operator.inputs) > 1 else ""
        found.append((names[code.builtinCode], code.version, second))
    return found


def test_float16_weights_are_widened_by_the_runtime() -> None:
    model, stored, plan = prepared("fp16")
    content, _ = emit(stored)
    assert [n.precision for n in plan.nodes.values()].count("fp16") == 4
    ops = operators(content)
    assert [op for op in ops if op[0] == "DEQUANTIZE"] == [("DEQUANTIZE", 3, "")] * 4
    assert len(content) < 0.55 * len(emit(model)[0])
    assert sqnr(stored, content) > 110
    assert sqnr(model, content) > 60


def test_int8_weights_under_float_activations() -> None:
    model, stored, plan = prepared("int8_dynamic")
    content, _ = emit(stored)
    assert {name: n.precision for name, n in plan.nodes.items() if n.weights} == {
        "conv": "int8_dynamic",
        "linear": "int8_dynamic",
    }
    assert plan.nodes["depthwise"].reason == "XNNPACK has no dynamic kernel for depthwise convolutions"
    assert plan.nodes["small"].reason.startswith("10 sums of 64 terms")
    ops = operators(content)
    assert ("CONV_2D", 5, "INT8") in ops
    assert ("FULLY_CONNECTED", 12, "INT8") in ops
    assert ("DEPTHWISE_CONV_2D", 1, "FLOAT32") in ops
    assert not {"QUANTIZE", "DEQUANTIZE"} & {op for op, _, _ in ops}
    assert len(content) < 0.35 * len(emit(model)[0])
    assert sqnr(model, content) > 35


def test_parts_are_int8_dynamic() -> None:
    _, _, plan = prepared("fp32,linear=int8_dynamic")
    assert [name for name, n in plan.nodes.items() if n.precision == "int8_dynamic"] == ["linear"]


def test_codes_that_are_no_weight_are_real_numbers_again() -> None:
    _, stored, _ = prepared("int8_dynamic")
    for value in stored.graph.initializers.values():
        if value.name is not None and value.name.startswith("v_int8_zero"):
            assert value.const_value is not None
            value.const_value = ir.tensor(value.const_value.numpy() + 3, name=value.name)
    content, _ = emit(stored)
    assert ("FULLY_CONNECTED", 1, "FLOAT32") in operators(content)
    assert sqnr(stored, content) > 35


def test_codes_that_are_real_numbers_again_are_not_rounded_a_second_time() -> None:
    _, stored, _ = prepared("int8_dynamic")
    for name, weight in (("conv", "CONV_2D"), ("linear", "FULLY_CONNECTED")):
        model = stored.clone()
        node = next(node for node in model.graph if node.name == name)
        source = node.inputs[0]
        assert source is not None
        params = [ir.tensor(array, name=n) for n, array in (("s", np.float32(0.05)), ("z", np.int8(3)))]
        values = [ir.Value(name=t.name, shape=t.shape, type=ir.TensorType(t.dtype), const_value=t) for t in params]
        for value in values:
            model.graph.register_initializer(value)
        quantize = ir.node("QuantizeLinear", [source, *values])
        pair = [quantize, ir.node("DequantizeLinear", [quantize.outputs[0], *values])]
        for each, dtype in zip(pair, (ir.DataType.INT8, ir.DataType.FLOAT), strict=True):
            each.outputs[0].shape, each.outputs[0].type = source.shape, ir.TensorType(dtype)
        node.replace_input_with(0, pair[1].outputs[0])
        model.graph.insert_before(node, pair)
        content, _ = emit(model)
        assert {second for op, _, second in operators(content) if op == weight} == {"FLOAT32"}, name


def test_an_old_runtime_refuses() -> None:
    with pytest.raises(LoadError, match="DS146"):
        prepared("int8_dynamic", contract(load_target("pos-armv7")))


def test_the_whole_flow_without_calibration(tmp_path: Path) -> None:
    options = {"target": "raspberry-pi-5", "runtime": "litert", "precision": "int8_dynamic"}
    m = dsedge.compile(DIGITS, output=tmp_path / "out", **options).manifest
    assert m.failed == [] and m.calibration is None
    assert (m.precision.precision, m.precision.int8_ops) == ("int8_dynamic", 6)
    assert "0 INT8 operators, 6 on float with INT8 weights, 9 float ones, 0 conversions" in m.precision.audit
    (size,) = (gate for gate in m.gates if gate.name == "size")
    assert size.value is not None and size.value < 0.3 * m.float_bytes
    assert m.fidelity is not None and m.fidelity.sqnr_db > 40 and m.fidelity.top1_agreement == 1.0


def test_the_table_of_an_embedding_is_a_quarter_under_either_precision(tmp_path: Path) -> None:
    net = Net(x=(1, 8))
    rows = net.op("Gather", net.weight(512, 256), net.op("Cast", "x", to=TensorProto.INT64))
    model = net.model(net.op("Relu", rows))
    for precision in ("int8", "int8_dynamic"):
        options = {"target": "raspberry-pi-5", "runtime": "litert", "calibration": "random", "precision": precision}
        bundle = dsedge.compile(model, output=tmp_path / precision, **options)
        assert bundle.manifest.precision.int8_ops == 1
        assert bundle.file("model").stat().st_size < 0.28 * bundle.manifest.float_bytes
        assert bundle.manifest.fidelity is not None and bundle.manifest.fidelity.sqnr_db > 38
