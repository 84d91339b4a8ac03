"""One operator, written in float or between Q/DQ pairs, emitted as TFLite and compared with ONNX Runtime.

The reference executes the graph node by node. Real results must agree to rounding; of codes none may be further than
one step, and moves and selections of codes must agree exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from dsedge.backends.litert.emit import emit
from dsedge.verify import predictor

SAMPLES = 3


@dataclass(frozen=True)
class Found:
    """What an artifact and the reference give for the same inputs.

    Attributes:
        got, expected: by sample, then by output.
        ops: TFLite operators of the file, in order, but for copies of inputs into outputs.
    """

    got: list[list[np.ndarray]]
    expected: list[list[np.ndarray]]
    ops: list[str]


def node(
    op: str,
    inputs: Sequence[tuple[int, ...] | np.ndarray | None],
    outputs: int = 1,
    *,
    dtype: type = np.float32,
    opset: int = 20,
    then: str | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node `op`.

    Args:
        op: operator type.
        inputs: a shape for what is fed, an array for a constant, None for an optional one that is missing.
        outputs: how many there are.
        dtype: of what is fed.
        opset: of the default domain.
        then: an activation behind it, "Relu" or "Clip:0,6".
        attributes: of the node.
    """
    names, fed, constants = [], [], []
    for i, given in enumerate(inputs):
        names.append("" if given is None else f"x{i}")
        if isinstance(given, tuple):
            fed.append(helper.make_tensor_value_info(f"x{i}", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), given))
        elif given is not None:
            constants.append(numpy_helper.from_array(given, f"x{i}"))
    results = [f"y{i}" for i in range(outputs)]
    nodes = [helper.make_node(op, names, results, name="n", **attributes)]
    if then is not None:
        kind, _, bounds = then.partition(":")
        ends = [np.array(float(b), np.float32) for b in bounds.split(",") if bounds]
        constants += [numpy_helper.from_array(b, f"bound{i}") for i, b in enumerate(ends)]
        nodes.append(helper.make_node(kind, ["y0", *(f"bound{i}" for i in range(len(ends)))], ["z"], name="act"))
        results = ["z"]
    infos = [helper.make_empty_tensor_value_info(name) for name in results]
    graph = helper.make_graph(nodes, "one", fed, infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return inferred(model)


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the shapes of all values, as every graph that reaches a backend has them."""
    found: onnx.ModelProto = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return found


def feeds_of(
    model: onnx.ModelProto, seed: int = 0, low: float = -2.0, high: float = 2.0
) -> list[dict[str, np.ndarray]]:
    """Random inputs."""
    rng = np.random.default_rng(seed)
    constants = {c.name for c in model.graph.initializer}
    samples = []
    for _ in range(SAMPLES):
        feeds = {}
        for value in model.graph.input:
            if value.name in constants:
                continue
            shape = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            if dtype == np.bool_:
                feeds[value.name] = rng.random(shape) < 0.5
            elif np.issubdtype(dtype, np.integer):
                feeds[value.name] = rng.integers(-5, 6, shape).astype(dtype)
            else:
                feeds[value.name] = rng.uniform(low, high, shape).astype(dtype)
        samples.append(feeds)
    return samples


def run(model: onnx.ModelProto, feeds: Sequence[Mapping[str, np.ndarray]]) -> Found:
    """Emit a model, and run it beside the reference."""
    graph = ir.from_proto(model)
    content, written = emit(graph)
    predict = interpreter(content)
    reference = predictor(graph, optimize=False)
    names = [value.name for value in model.graph.output]
    got = [[outputs[name] for name in names] for outputs in map(predict, feeds)]
    ops = [op for (op, _), copies in zip(written, _copies(content), strict=True) if not copies]
    return Found(got, [reference(dict(sample)) for sample in feeds], ops)


def _copies(content: bytes) -> list[bool]:
    """Of a file: whether each operator copies an input of it into an output."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0)).subgraphs[0]
    shapes = [tuple(tensor.shape) for tensor in graph.tensors]
    return [
        isinstance(o.builtinOptions, schema.ReshapeOptionsT)
        and o.inputs[0] in graph.inputs
        and o.outputs[0] in graph.outputs
        and shapes[o.inputs[0]] == shapes[o.outputs[0]]
        for o in graph.operators
    ]


def interpreter(content: bytes, *, reset: bool = True) -> Any:
    """The runtime on a file, with its delegate: from feeds to outputs by name; `reset` forgets states before each."""
    from ai_edge_litert.interpreter import Interpreter

    opened = Interpreter(model_content=content, num_threads=1)
    opened.allocate_tensors()
    runner = opened.get_signature_runner("serving_default")

    def predict(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if reset:
            opened.reset_all_variables()  # as the bundle's runner does: inferences are independent of each other
        return {name: np.array(out) for name, out in runner(**feeds).items()}

    return predict


def check_float(
    model: onnx.ModelProto,
    feeds: Sequence[Mapping[str, np.ndarray]] | None = None,
    *,
    tolerance: float = 1e-5,
) -> Found:
    """Emit a float model and compare; the tolerance is in parts of the greatest magnitude of the output."""
    found = run(model, feeds_of(model) if feeds is None else feeds)
    for got, expected in zip(found.got, found.expected, strict=True):
        for mine, other in zip(got, expected, strict=True):
            assert mine.shape == other.shape
            assert mine.dtype == other.dtype
            if other.dtype.kind == "f":
                limit = tolerance * max(1.0, float(np.abs(other[np.isfinite(other)]).max(initial=0.0)))
                np.testing.assert_allclose(mine, other, rtol=0, atol=limit)
            else:
                np.testing.assert_array_equal(mine, other)
    return found


def quantized(
    model: onnx.ModelProto,
    *,
    weights: Mapping[int, int | None] | None = None,
    bias: int | None = None,
    same: bool = False,
    fixed: tuple[float, int] | None = None,
    activations: Sequence[int] | None = None,
    low: float = -2.0,
    high: float = 2.0,
) -> onnx.ModelProto:
    """The model of one node with Q/DQ pairs: on what is fed, on its results, on its weights and its bias.

    Args:
        model: from `node`.
        weights: index of a constant input -> its channel axis, None per tensor; int8, symmetric.
        bias: index of the bias, int32 on the grid of the accumulator.
        same: whether inputs and outputs share one scale.
        fixed: scale and zero point of the output.
        activations: indices of constant inputs that are activations too (the other side of an Add).
        low, high: the range of what is fed.
    """
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    arrays = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    first = graph.node[0]
    rng = np.random.default_rng(7)
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []

    def stored(name: str, array: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def pair(source: str, target: str, scale: float, zero: int, into: list[onnx.NodeProto]) -> None:
        names = [
            stored(f"{target}_scale", np.float32(scale).reshape(())),
            stored(f"{target}_zero", np.array(zero, np.int8)),
        ]
        into.append(helper.make_node("QuantizeLinear", [source, *names], [f"{target}_codes"], name=f"{target}_q"))
        into.append(helper.make_node("DequantizeLinear", [f"{target}_codes", *names], [target], name=f"{target}_dq"))

    shared: tuple[float, int] | None = None
    input_scale = 0.0
    for i, name in enumerate(list(first.input)):
        if not name or (name in arrays and i not in (activations or ())):
            continue
        bottom, top = (low, high) if name not in arrays else (float(arrays[name].min()), float(arrays[name].max()))
        spread = 1.0 if i == 0 or same else float(rng.uniform(0.5, 1.0))
        scale, zero = affine(bottom * spread, top * spread)
        shared = shared or (scale, zero)
        scale, zero = shared if same else (scale, zero)
        input_scale = input_scale or scale
        pair(name, f"{name}_in", scale, zero, before)
        first.input[i] = f"{name}_in"
    scales: np.ndarray = np.array(1.0)
    for i, axis in (weights or {}).items():
        name = first.input[i]
        array = arrays[name]
        others = None if axis is None else tuple(a for a in range(array.ndim) if a != axis)
        scales = np.maximum(np.abs(array).max(axis=others) / 127, 1e-9).astype(np.float32)
        sides = [1] * array.ndim
        if axis is not None:
            sides[axis] = -1
        codes = np.clip(np.rint(array / scales.reshape(sides)), -127, 127).astype(np.int8)
        names = [stored(f"{name}_codes", codes), stored(f"{name}_scale", scales)]
        names.append(stored(f"{name}_zero", np.zeros(scales.shape, np.int8)))
        attributes = {} if axis is None else {"axis": axis}
        before.append(helper.make_node("DequantizeLinear", names, [f"{name}_w"], name=f"{name}_w", **attributes))
        first.input[i] = f"{name}_w"
    if bias is not None and bias < len(first.input) and first.input[bias]:
        name = first.input[bias]
        grid = (np.float32(input_scale) * scales).astype(np.float32)
        codes32 = np.rint(arrays[name] / grid).astype(np.int32)
        names = [stored(f"{name}_codes", codes32), stored(f"{name}_scale", grid)]
        names.append(stored(f"{name}_zero", np.zeros(grid.shape, np.int32)))
        attributes = {"axis": 0} if grid.ndim else {}
        before.append(helper.make_node("DequantizeLinear", names, [f"{name}_b"], name=f"{name}_b", **attributes))
        first.input[bias] = f"{name}_b"
    results = predictor(ir.from_proto(model), optimize=False)
    seen = [results(sample) for sample in feeds_of(model, seed=1, low=low, high=high)]
    last = graph.node[-1]
    for i, output in enumerate(list(graph.output)):
        values = np.concatenate([sample[i].reshape(-1) for sample in seen])
        if values.dtype != np.float32:
            continue
        scale, zero = shared if same and shared else fixed or affine(float(values.min()), float(values.max()))
        name = output.name
        index = list(last.output).index(name)
        last.output[index] = f"{name}_float"
        pair(f"{name}_float", name, scale, zero, after)
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for each in graph.node for name in each.input}
    kept = [c for c in graph.initializer if c.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    return inferred(copied)


def affine(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of int8 codes for a range."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / 255, 1e-6)
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def check_int8(
    model: onnx.ModelProto,
    *,
    steps: int = 1,
    exact: float = 0.0,
    allow: Sequence[str] = (),
    low: float = -2.0,
    high: float = 2.0,
    **how: Any,
) -> Found:
    """Quantize a model of one node, emit it, and compare codes.

    Args:
        model: from `node`.
        steps: the greatest difference allowed, in steps of the output's scale.
        exact: the least share of codes that must be equal.
        allow: float operators that may be in the file; none by default.
        low, high: the range of what is fed.
        how: see `quantized`.
    """
    qdq = quantized(model, low=low, high=high, **how)
    found = run(qdq, feeds_of(qdq, seed=2, low=low, high=high))
    assert_int8(qdq, allow)
    scales = {
        c.name: float(numpy_helper.to_array(c))
        for c in qdq.graph.initializer
        if c.name.endswith("_scale") and numpy_helper.to_array(c).ndim == 0
    }
    for got, expected in zip(found.got, found.expected, strict=True):
        for mine, other, output in zip(got, expected, qdq.graph.output, strict=True):
            assert mine.shape == other.shape
            if other.dtype.kind != "f":
                np.testing.assert_array_equal(mine, other)
                continue
            off = np.rint(np.abs(mine - other) / scales[f"{output.name}_scale"])
            assert off.max(initial=0) <= steps, f"{off.max()} steps, {100 * np.mean(off == 0):.2f}% exact"
            assert np.mean(off == 0) >= exact, f"{100 * np.mean(off == 0):.2f}% exact"
    return found


def assert_int8(qdq: onnx.ModelProto, allow: Sequence[str] = ()) -> None:
    """Every operator of the file reads codes, but for the conversion of what is fed and of what is given back."""
    content, _ = emit(ir.from_proto(qdq))
    fed, given = 0, 0
    for op, inputs, outputs in operators(content):
        if op == "QUANTIZE" and inputs[0] == "FLOAT32":
            fed += 1
        elif op == "DEQUANTIZE" and outputs[0] == "FLOAT32":
            given += 1
        elif op not in allow:
            assert "FLOAT32" not in (*inputs, *outputs), f"{op} computes in float"
    assert fed <= len(qdq.graph.input)
    assert given <= len(qdq.graph.output)


def operators(content: bytes) -> list[tuple[str, list[str], list[str]]]:
    """Of a file: each operator's name, the types of its inputs and those of its outputs."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    types = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        name = names[model.operatorCodes[operator.opcodeIndex].builtinCode]
        kinds = [[types[graph.tensors[i].type] for i in side if i >= 0] for side in (operator.inputs, operator.outputs)]
        found.append((name, *kinds))
    return found


def refused(model: onnx.ModelProto, because: str) -> None:
    """Emitting a model gives a coded error with a reason."""
    from dsedge.errors import BuildError

    with pytest.raises(BuildError, match="DS401") as caught:
        emit(ir.from_proto(model))
    assert because in (caught.value.because or "")
