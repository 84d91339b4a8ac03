"""What lies between linear layers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import array, fresh, is_constant, label, nodes, value_names

_UNARY = frozenset(
    "Gelu Relu Tanh Sigmoid Erf Sqrt Neg Abs Exp LeakyRelu Elu HardSwish HardSigmoid Softplus Mish".split()
)
_BINARY = frozenset("Add Sub Mul Div".split())


Flat = dict[tuple[ir.Value, object], ir.Value]
"""For a value and the graph in which it is read: the value as a matrix."""


class KeepMatrices(Pass):
    """Lets what lies between linear layers work on matrices as they do.

    What:
        Elementwise operators and LayerNormalization that read a matrix through a Reshape to [batch, sequence, features]
        read the matrix itself, and the Reshape follows them. Where a linear layer follows, the two Reshapes cancel, so
        that the hidden states of a transformer stay matrices from layer to layer.
    Why:
        A Reshape between two layers hides that they belong together, and each costs a few microseconds. On matrices
        ONNX Runtime does not fuse Add and LayerNormalization into SkipLayerNormalization either, whose CPU kernel is
        slower than the two apart.
    When not:
        Operands of other shapes, unless they are constants with one element a feature or one in all. A normalization
        over other axes than the last, or one whose statistics are used.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Moves Reshapes behind the operators that allow it, and removes those that cancel."""
        modified = False
        taken = value_names(model)
        flat: Flat = {}
        for node in nodes(model):
            if node.op_type == "Reshape":
                modified |= _cancels(node, flat)
            elif node.op_type in _UNARY | _BINARY | {"LayerNormalization"}:
                read = [v for v in node.inputs if v is not None and _matrix_of(v) is not None]
                if not read:
                    continue
                reason = _unfit(node, read[0])
                if reason:
                    self.notes.append(f"{label(node)} keeps its shape: {reason}")
                else:
                    _on_matrices(node, read[0], flat, taken)
                    modified = True
        return ir.passes.PassResult(model, modified)


def _cancels(reshape: ir.Node, flat: Flat) -> bool:
    """Whether a Reshape back to a matrix was taken out, since the matrix is there."""
    value, result = reshape.inputs[0], reshape.outputs[0]
    assert value is not None
    key = (value, reshape.graph)
    matrix = _matrix_of(value) or flat.get(key)
    if matrix is None or not _same_matrix(result, matrix) or result.is_graph_output():
        if dims(value) is not None and _same_matrix(result, value):
            flat.setdefault(key, result)
        return False
    result.replace_all_uses_with(matrix)
    return True


def _matrix_of(value: ir.Value | None) -> ir.Value | None:
    """The matrix that a value of higher rank is a Reshape of, with the same features in the last axis."""
    reshape = value.producer() if value is not None else None
    if value is None or reshape is None or reshape.op_type != "Reshape" or reshape.domain:
        return None
    matrix, shape = reshape.inputs[0], dims(value)
    before = dims(matrix) if matrix is not None else None
    if shape is None or before is None or len(before) != 2 or len(shape) < 3:
        return None
    return matrix if isinstance(shape[-1], int) and shape[-1] == before[-1] else None


def _same_matrix(value: ir.Value, other: ir.Value) -> bool:
    """Whether a value is a matrix with the features of another value."""
    shape, features = dims(value), dims(other)
    return shape is not None and features is not None and len(shape) == 2 and shape[-1:] == features[-1:]


def _unfit(node: ir.Node, read: ir.Value) -> str | None:
    shape = dims(read)
    assert shape is not None
    if node.op_type == "LayerNormalization":
        if node.inputs[0] is not read or node.attributes.get_int("axis", -1) not in (-1, len(shape) - 1):
            return "it normalizes over other axes than the last"
        used = any(out.uses() or out.is_graph_output() for out in node.outputs[1:])
        vectors = all(v is None or (v.shape is not None and len(v.shape) <= 1) for v in node.inputs[1:])
        return "its statistics are used" if used else None if vectors else "its scale is no vector"
    if dims(node.outputs[0]) != shape:
        return "its result has another shape"
    for value in node.inputs:
        if value is None or _per_feature(value, shape[-1]) or dims(value) == shape:
            continue
        return f"its operand {value.name!r} has another shape"
    return None if all(d is not None for d in shape) else "an axis is unknown"


def _per_feature(value: ir.Value, features: object) -> bool:
    """Whether a constant has one element a feature, or one in all."""
    if not is_constant(value):
        return False
    size = array(value).size
    return size == 1 or (size == features and array(value).shape[-1] == size)


def _on_matrices(node: ir.Node, read: ir.Value, flat: Flat, taken: set[str]) -> None:
    graph, reshape, old = node.graph, read.producer(), node.outputs[0]
    matrix = _matrix_of(read)
    assert graph is not None and reshape is not None and matrix is not None
    shape = dims(read)
    for index, value in enumerate(node.inputs):
        if value is None or (node.op_type == "LayerNormalization" and index > 0):
            continue
        own = _matrix_of(value)
        if own is not None:
            node.replace_input_with(index, own)
        elif dims(value) == shape:
            key = (value, graph)
            if key not in flat:
                flat[key] = _flattened(value, matrix, node, taken)
            node.replace_input_with(index, flat[key])
        elif array(value).ndim > 1:
            node.replace_input_with(index, _constant(value, node, taken))
    if node.op_type == "LayerNormalization":
        node.attributes["axis"] = ir.AttrInt64("axis", -1)
    back = ir.node("Reshape", [old, reshape.inputs[1]], dict(reshape.attributes), name=f"{label(node)}_reshape")
    result = back.outputs[0]
    result.type, result.shape = old.type, old.shape
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    back.replace_input_with(0, old)
    result.name, old.name = old.name, fresh(f"{old.name}_matrix", taken)
    old.shape = matrix.shape
    graph.insert_after(node, back)


def _flattened(value: ir.Value, like: ir.Value, node: ir.Node, taken: set[str]) -> ir.Value:
    """`value` as a matrix with the features of `like`, before `node`."""
    graph, features = node.graph, like.shape[1] if like.shape is not None else None
    assert isinstance(graph, ir.Graph) and isinstance(features, int)
    name = fresh(f"{value.name}_matrix", taken)
    target = ir.val(f"{name}_shape", const_value=ir.tensor(np.array([-1, features], np.int64), name=f"{name}_shape"))
    graph.register_initializer(target)
    result = ir.Value(name=name, shape=like.shape, type=value.type)
    graph.insert_before(node, ir.node("Reshape", [value, target], outputs=[result], name=f"{name}_reshape"))
    return result


def _constant(value: ir.Value, node: ir.Node, taken: set[str]) -> ir.Value:
    """A constant of higher rank as a vector."""
    graph, name = node.graph, fresh(f"{value.name}_vector", taken)
    assert isinstance(graph, ir.Graph)
    vector = ir.val(name, const_value=ir.tensor(array(value).reshape(-1), name=name))
    graph.register_initializer(vector)
    return vector
