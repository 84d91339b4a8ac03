"""LSTM, GRU and RNN against ONNX Runtime: step by step and fused, in float and with INT8 weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from dsedge.backends.litert.emit import emit
from dsedge.backends.litert.ops.unrolled import MAX_STEPS
from tests.backends.litert.harness import check_float, feeds_of, inferred, interpreter, node, refused, run

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
LONG = MAX_STEPS + 1
STEPS, BATCH, FEATURES, HIDDEN = 4, 2, 3, 5


def model(
    op: str,
    *,
    directions: int = 1,
    state: str = "",
    outputs: int = 2,
    steps: int = STEPS,
    layout: int = 0,
    bias: bool = True,
    lengths: int | None = None,
    peepholes: bool = False,
    size: tuple[int, int, int] = (BATCH, FEATURES, HIDDEN),
    **attributes: Any,
) -> onnx.ModelProto:
    """One recurrent node; its state is "fed", "constant" or zero."""
    rng = np.random.default_rng(3)
    batch, features, hidden = size

    def random(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    rows = GATES[op] * hidden
    held = (batch, directions, hidden) if layout else (directions, batch, hidden)
    inputs: list[Any] = [(batch, steps, features) if layout else (steps, batch, features)]
    inputs += [random(directions, rows, features), random(directions, rows, hidden)]
    inputs += [random(directions, 2 * rows) if bias else None]
    inputs += [None if lengths is None else np.full(batch, lengths, np.int32)]
    inputs += [held if state == "fed" else random(*held) if state == "constant" else None] * (2 if op == "LSTM" else 1)
    if peepholes:
        inputs.append(random(directions, 3 * hidden))
    if layout:
        attributes["layout"] = 1
    attributes.setdefault("direction", "bidirectional" if directions == 2 else "forward")
    return node(op, inputs, outputs, hidden_size=hidden, **attributes)


def stored(float_model: onnx.ModelProto, per_row: bool = False) -> onnx.ModelProto:
    """With INT8 weights W and R behind DequantizeLinear."""
    found = onnx.ModelProto()
    found.CopyFrom(float_model)
    graph = found.graph
    arrays = {c.name: c for c in graph.initializer}
    before = []
    for i in (1, 2):
        name = graph.node[0].input[i]
        array = numpy_helper.to_array(arrays[name])
        scale = np.abs(array).max(axis=(0, 2) if per_row else None) / 127
        codes = np.rint(array / (scale[:, None] if per_row else scale)).astype(np.int8)
        graph.initializer.remove(arrays[name])
        parts = [(codes, "codes"), (scale.astype(np.float32), "scale"), (np.zeros(scale.shape, np.int8), "zero")]
        graph.initializer.extend(numpy_helper.from_array(np.asarray(part), f"{name}_{what}") for part, what in parts)
        names = [f"{name}_{what}" for _, what in parts]
        before.append(helper.make_node("DequantizeLinear", names, [f"{name}_real"], name=f"{name}_dq", axis=1))
        graph.node[0].input[i] = f"{name}_real"
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return inferred(found)


def opened(content: bytes) -> Any:
    """A file as objects of the schema."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def versions(content: bytes) -> dict[str, int]:
    """Operator -> the version that a file asks for."""
    from ai_edge_litert import schema_py_generated as schema

    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    return {names[code.builtinCode]: code.version for code in opened(content).operatorCodes}


@pytest.mark.parametrize("state", ["", "fed", "constant"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op", GATES)
def test_agrees_in_float(op: str, directions: int, state: str) -> None:
    check_float(model(op, directions=directions, state=state, outputs=3 if op == "LSTM" else 2))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("directions", [1, 2])
def test_a_long_lstm_is_one_operator_a_direction(directions: int, batch: int) -> None:
    found = check_float(model("LSTM", directions=directions, steps=LONG, size=(batch, FEATURES, HIDDEN)))
    assert found.ops.count("UNIDIRECTIONAL_SEQUENCE_LSTM") == directions
    assert "FULLY_CONNECTED" not in found.ops


def variables(content: bytes) -> int:
    """Tensors that keep their values from one inference to the next."""
    return sum(tensor.isVariable for tensor in opened(content).subgraphs[0].tensors)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("hybrid", [False, True])
def test_no_state_lasts(op: str, hybrid: bool) -> None:
    """Not even with a runner that resets nothing, as most do; CompiledModel does not load a file with variables."""
    recurrent = stored(model(op, steps=MAX_STEPS)) if hybrid else model(op)
    content = emit(ir.from_proto(recurrent))[0]
    assert variables(content) == 0
    predict = interpreter(content, reset=False)
    feeds = feeds_of(recurrent)
    first = predict(feeds[0])
    predict(feeds[1])
    for name, again in predict(feeds[0]).items():
        np.testing.assert_array_equal(first[name], again)


def test_the_state_of_a_long_lstm_is_reset_by_who_runs_it() -> None:
    lstm = model("LSTM", steps=LONG)
    content = emit(ir.from_proto(lstm))[0]
    assert variables(content) == 2
    feeds = feeds_of(lstm)[0]
    for reset in (True, False):
        predict = interpreter(content, reset=reset)
        first, second = predict(feeds), predict(feeds)
        assert np.array_equal(first["y0"], second["y0"]) == reset


@pytest.mark.parametrize(
    ("op", "how"),
    [
        ("LSTM", {"direction": "reverse"}),
        ("GRU", {"direction": "reverse"}),
        ("LSTM", {"bias": False}),
        ("GRU", {"bias": False}),
        ("LSTM", {"lengths": STEPS}),
        ("LSTM", {"steps": 1}),
        ("GRU", {"steps": 1}),
        ("LSTM", {"peepholes": True}),
        ("LSTM", {"peepholes": True, "state": "fed"}),
        ("LSTM", {"clip": 0.3}),
        ("GRU", {"clip": 0.3}),
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"linear_before_reset": 1, "directions": 2, "state": "fed"}),
        ("RNN", {"activations": ["Relu"]}),
        ("GRU", {"activations": ["HardSigmoid", "Tanh"], "activation_alpha": [0.3], "activation_beta": [0.4]}),
        ("LSTM", {"activations": ["HardSigmoid", "Relu", "Tanh"]}),
    ],
)
def test_agrees_on_variants(op: str, how: dict[str, Any]) -> None:
    check_float(model(op, **how))


@pytest.mark.parametrize("op", GATES)
def test_batch_first_layout(op: str) -> None:
    """ONNX Runtime has no `layout` 1, so the reference is the same weights under `layout` 0."""
    content, _ = emit(ir.from_proto(model(op, directions=2, layout=1, state="fed" if op == "GRU" else "")))
    predict = interpreter(content)
    time_first = model(op, directions=2, state="fed" if op == "GRU" else "")
    for feeds, expected in zip(feeds_of(time_first), run(time_first, feeds_of(time_first)).expected, strict=True):
        got = predict({name: np.ascontiguousarray(x.swapaxes(0, 1)) for name, x in feeds.items()})
        np.testing.assert_allclose(got["y0"], expected[0].transpose(2, 0, 1, 3), atol=1e-5)
        np.testing.assert_allclose(got["y1"], expected[1].transpose(1, 0, 2), atol=1e-5)


def test_batch_first_input_is_read_as_it_lies() -> None:
    lstm = model("LSTM", outputs=1, steps=LONG)
    graph = lstm.graph
    dims = graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value, dims[1].dim_value = BATCH, LONG
    transposed = helper.make_node("Transpose", [graph.node[0].input[0]], ["time_first"], perm=[1, 0, 2], name="t")
    graph.node.insert(0, transposed)
    graph.node[1].input[0] = "time_first"
    back = helper.make_node("Squeeze", ["y0", "axis"], ["squeezed"], name="s")
    graph.node.extend([back, helper.make_node("Transpose", ["squeezed"], ["z"], perm=[1, 0, 2], name="b")])
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    del graph.output[:], graph.value_info[:]
    graph.output.append(helper.make_empty_tensor_value_info("z"))
    found = check_float(inferred(lstm))
    assert "TRANSPOSE" not in found.ops


@pytest.mark.parametrize(
    ("op", "state", "steps"),
    [*((op, state, STEPS) for op in GATES for state in ("", "fed")), ("LSTM", "", LONG)],
)
def test_hybrid(op: str, state: str, steps: int) -> None:
    """Activations are rounded as they come: the results agree up to that. Old runtimes read these versions."""
    weights = (1, 24, 32)
    hybrid = stored(model(op, state=state, steps=steps, size=weights))
    found = run(hybrid, feeds_of(hybrid))
    got, expected = (
        np.concatenate([output.ravel() for sample in side for output in sample]) for side in (found.got, found.expected)
    )
    assert 10 * np.log10(np.mean(expected**2) / np.mean((got - expected) ** 2)) > 30
    content = emit(ir.from_proto(hybrid))[0]
    assert len(content) < 0.6 * len(emit(ir.from_proto(model(op, state=state, steps=steps, size=weights)))[0])
    found_versions = versions(content)
    if steps == LONG:
        assert found_versions["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    else:
        assert found_versions["FULLY_CONNECTED"] == 3


def test_codes_with_a_scale_for_each_row_are_written_as_numbers() -> None:
    check_float(stored(model("LSTM"), per_row=True))
    check_float(stored(model("GRU"), per_row=True))


@pytest.mark.parametrize("op", GATES)
def test_float16_weights(op: str) -> None:
    halved = model(op)
    graph = halved.graph
    for i in (1, 2):
        constant = next(c for c in graph.initializer if c.name == graph.node[-1].input[i])
        wide = f"{constant.name}_wide"
        constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant).astype(np.float16), constant.name))
        graph.node.insert(0, helper.make_node("Cast", [constant.name], [wide], name=wide, to=onnx.TensorProto.FLOAT))
        graph.node[-1].input[i] = wide
    found = check_float(inferred(halved))
    assert "DEQUANTIZE" in found.ops


def test_steps_share_constants() -> None:
    buffers = [len(opened(emit(ir.from_proto(model("GRU", steps=n)))[0]).buffers) for n in (8, 16)]
    assert buffers[0] == buffers[1]


@pytest.mark.parametrize(
    ("op", "how", "because"),
    [
        ("GRU", {"steps": LONG}, "129 steps are more than 128"),
        ("LSTM", {"steps": LONG, "state": "fed"}, "takes no initial state"),
        ("LSTM", {"lengths": STEPS - 1}, "different lengths"),
        ("LSTM", {"input_forget": 1}, "coupled"),
        ("RNN", {"activations": ["Softsign"]}, "softsign"),
        ("LSTM", {"activations": ["Tanh"]}, "1 activation functions instead of 3"),
        ("GRU", {"direction": "sideways"}, "sideways"),
    ],
)
def test_refuses_with_a_reason(op: str, how: dict[str, Any], because: str) -> None:
    refused(model(op, **how), because)


@pytest.mark.parametrize("index", [1, 2, 3, 5])
def test_refuses_inputs_that_do_not_fit(index: int) -> None:
    gru = model("GRU", state="constant")
    name = gru.graph.node[0].input[index]
    constant = next(c for c in gru.graph.initializer if c.name == name)
    constant.CopyFrom(numpy_helper.from_array(np.zeros((*constant.dims[:-1], 7), np.float32), name))
    refused(gru, "instead of")


def test_refuses_weights_that_are_computed() -> None:
    gru = model("GRU")
    weight = gru.graph.node[0].input[1]
    array = next(c for c in gru.graph.initializer if c.name == weight)
    gru.graph.input.append(helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, array.dims))
    gru.graph.initializer.remove(array)
    refused(inferred(gru), "computed at run time")
