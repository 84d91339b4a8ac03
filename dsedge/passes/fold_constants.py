"""Everything that does not depend on the inputs, computed once."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from dsedge.model import dims, static_shape
from dsedge.passes.base import Pass
from dsedge.passes.edit import array, is_constant, label, nodes
from dsedge.passes.infer_shapes import InferShapes
from dsedge.passes.match import made_by

MAX_GROWTH = 64 << 20  # bytes that one value may take beyond the constants it is made from
MAX_TOTAL_GROWTH = 1 << 30  # bytes over the whole graph
_SMALL = 1024  # bytes; shapes and axes are below it, and shape inference needs their values
_KEPT = frozenset(
    # Quantized weights: the dequantization belongs to the runtime's kernel.
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear "
    # Another result each time.
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli Dropout "
    # Already a constant; it could not be lifted because it is an output.
    "Constant".split()
)
_TYPES = frozenset(
    np.dtype(name) for name in "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split()
)


class _NotFoldedError(Exception):
    """Why a node whose inputs are constants stays."""


class FoldConstants(Pass):
    """Computes what depends on constants only.

    What:
        A node whose inputs are all initializers is run in ONNX Runtime by itself, with the optimizer off, and its
        outputs become initializers. Shape and Size of a value of static shape become initializers, and so do
        static axes that Gather or Slice picks out of a Shape. Shapes are inferred
        again after each sweep, until nothing is left to fold.
    Why:
        Exporters compute shapes, weights and masks in the graph: the weights of an LSTM exported from torch are
        slices of one buffer, for instance. Only a constant can be quantized as a weight. The kernels are those of the
        runtime, so the numbers are the same.
    When not:
        Outputs of the graph, nodes with subgraphs, random operators, Q/DQ of weights that are already quantized, other
        domains, strings and types that numpy does not have. A value that would grow by over 64 MiB, or whose size is
        not known before it is computed, stays a node and is noted.
    Cost:
        A fraction of a millisecond a node, plus its own computation; a shape inference a sweep.
    """

    def __init__(self) -> None:
        super().__init__()
        self._growth = 0

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Folds until nothing changes."""
        modified = False
        while self._sweep(model):
            modified = True
            InferShapes()(model)
        return ir.passes.PassResult(model, modified)

    def _sweep(self, model: ir.Model) -> bool:
        self.notes.clear()
        modified = False
        for node in nodes(model):
            try:
                results = self._evaluate(node, model)
            except _NotFoldedError as reason:
                self.notes.append(f"{label(node)} not folded: {reason}")
                continue
            if results is not None:
                _replace(node, results)
                modified = True
        return modified

    def _evaluate(self, node: ir.Node, model: ir.Model) -> list[np.ndarray] | None:
        """The outputs of a node, or None for a node that is no candidate."""
        if node.op_type in _KEPT or not node.inputs or any(output.is_graph_output() for output in node.outputs):
            return None
        known = _shape_of_input(node)
        if known is None:
            known = _axis_of_shape(node)
        if known is not None:
            return [known]
        inputs = {value.name: value for value in node.inputs if value is not None}
        if not inputs or not all(is_constant(v) and _numpy_type(v) for v in inputs.values()) or _has_subgraph(node):
            return None
        proto = _as_model(node, list(inputs.values()), model)
        growth = _output_bytes(proto) - sum(value.const_value.nbytes for value in inputs.values() if value.const_value)
        if growth > MAX_GROWTH or self._growth + max(growth, 0) > MAX_TOTAL_GROWTH:
            raise _NotFoldedError(f"it would make the model {growth / (1 << 20):.0f} MiB larger")
        self._growth += max(growth, 0)
        return _run(proto, {name: array(inputs[name]) for name in (i.name for i in proto.graph.input)})


def _shape_of_input(node: ir.Node) -> np.ndarray | None:
    if node.op_type not in ("Shape", "Size") or node.inputs[0] is None:
        return None
    shape = static_shape(node.inputs[0])
    if shape is None:
        return None
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape))
    return np.array(shape[slice(start, end)], np.int64)


def _axis_of_shape(node: ir.Node) -> np.ndarray | None:
    """The axes that Gather or Slice picks out of the Shape of a value, when they are numbers though others are not."""
    source = made_by(node.inputs[0], "Shape") if node.op_type in ("Gather", "Slice") else None
    shape = dims(source.inputs[0]) if source is not None and source.inputs[0] is not None else None
    if source is None or shape is None or source.attributes or not all(map(is_constant, node.inputs[1:])):
        return None
    chosen = [array(value) for value in node.inputs[1:] if value is not None]
    axes = np.array(shape, dtype=object)
    try:
        picked = axes[chosen[0]] if node.op_type == "Gather" else axes[_slice(chosen)]
    except (IndexError, ValueError):
        return None
    picked = np.asarray(picked, dtype=object)
    return picked.astype(np.int64) if all(isinstance(length, int) for length in picked.ravel()) else None


def _slice(inputs: list[np.ndarray]) -> slice:
    """Start, end, axes and step of a Slice of a vector."""
    start, end, step = (int(part.item()) for part in (*inputs[:2], inputs[3] if len(inputs) > 3 else np.array(1)))
    return slice(start, end, step)


def _numpy_type(value: ir.Value) -> bool:
    assert value.const_value is not None
    return not value.const_value.dtype.is_string() and value.const_value.dtype.numpy() in _TYPES


def _has_subgraph(node: ir.Node) -> bool:
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def _as_model(node: ir.Node, inputs: list[ir.Value], model: ir.Model) -> onnx.ModelProto:
    """A model of the one node; small inputs are initializers, large ones are fed. Shapes are inferred."""
    infos, initializers = [], []
    for value in inputs:
        assert value.const_value is not None and value.name is not None
        if value.const_value.nbytes <= _SMALL:
            initializers.append(onnx.numpy_helper.from_array(array(value), value.name))
        else:
            shape, dtype = value.const_value.shape.numpy(), int(value.const_value.dtype)
            infos.append(onnx.helper.make_tensor_value_info(value.name, dtype, shape))
    outputs = [onnx.ValueInfoProto(name=output.name) for output in node.outputs if output.name]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph([ir.to_proto(node)], "constant", infos, outputs, initializers),
        opset_imports=[onnx.helper.make_opsetid("", model.opset_imports[""])],
        ir_version=max(model.ir_version, 4),
    )
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def _output_bytes(model: onnx.ModelProto) -> int:
    total = 0
    for output in model.graph.output:
        tensor = output.type.tensor_type
        static = tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
        if not static or not tensor.elem_type:
            raise _NotFoldedError("its size is not known before it is computed")
        itemsize = ir.DataType(tensor.elem_type).itemsize
        total += math.ceil(math.prod(dim.dim_value for dim in tensor.shape.dim) * itemsize)
    return total


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results = session.run(None, feeds)
    except Exception as error:
        raise _NotFoldedError(f"ONNX Runtime cannot compute it ({error})") from error
    if not all(isinstance(result, np.ndarray) and result.dtype in _TYPES for result in results):
        raise _NotFoldedError("it makes something else than a tensor of numbers")
    return list(results)


def _replace(node: ir.Node, results: list[np.ndarray]) -> None:
    graph = node.graph
    assert graph is not None
    for output, result in zip((output for output in node.outputs if output.name), results, strict=True):
        constant = ir.val(output.name, const_value=ir.tensor(result, name=output.name))
        output.replace_all_uses_with(constant)
        graph.register_initializer(constant)
    graph.remove(node, safe=True)
