"""What a plan says of single weights and nodes, where TensorRT's types are said for the whole graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.passes.edit import PRECISION, is_constant

_BRIEF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def as_computed(model: ir.Model) -> ir.Model:
    """A graph in float32, in which weights that are stored as float16 are float32 constants with the same values.

    Casts that stand for the rounding of nodes in bfloat16 are left out: the types of the graph will say it.

    Args:
        model: as `insert` writes it.

    Returns:
        The model itself when there is nothing to do, else a copy.
    """
    if not any(_widens(node) or rounds(node) for node in model.graph):
        return model
    model = model.clone()
    for node in [node for node in model.graph if _widens(node) or rounds(node)]:
        stored, value = node.inputs[0], node.outputs[0]
        assert stored is not None
        if rounds(node):
            value.replace_all_uses_with(stored)
        else:
            assert stored.const_value is not None
            data, name = stored.const_value.numpy().astype(np.float32), f"{value.name}_wide"
            wide = ir.val(name, const_value=ir.tensor(data, name=name))
            model.graph.register_initializer(wide)
            value.replace_all_uses_with(wide)
        model.graph.remove(node, safe=True)
        if is_constant(stored) and not stored.uses():
            model.graph.initializers.pop(stored.name or "", None)
    return model


def rounds(node: ir.Node) -> bool:
    """Whether a node stands for the rounding of one that computes in bfloat16."""
    return node.op_type == "Cast" and node.metadata_props.get(PRECISION) == "bf16"


def in_float32(model: ir.Model) -> ir.Model:
    """A strongly typed graph in which each node computes in float32, and its result is rounded.

    ONNX Runtime has no kernels in bfloat16, and few in float16: between nodes that have none it rounds nothing, so that
    what exceeds float16 would not be seen.

    Args:
        model: as `to_typed` writes it.

    Returns:
        The model itself when nothing in it is float16 or bfloat16, else a copy.
    """
    wide = ir.DataType.FLOAT
    values = (*model.graph.initializers.values(), *(output for node in model.graph for output in node.outputs))
    if not any(value.dtype in _BRIEF for value in values):
        return model
    model = model.clone()
    for value in model.graph.initializers.values():
        if value.dtype in _BRIEF and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(wide)
    for node in list(model.graph):
        for output in node.outputs:
            brief = output.dtype
            if brief is None or brief not in _BRIEF:
                continue
            uses = [(use.node, use.idx) for use in output.uses()]
            rounded, name = output, output.name
            if node.op_type != "Cast":
                output.type = ir.TensorType(wide)
                rounded = _cast(model.graph, node, output, brief, f"{name}_rounded")
            back = _cast(model.graph, rounded.producer() or node, rounded, wide, f"{name}_wide")
            for user, index in uses:
                user.replace_input_with(index, back)
    return model


def _cast(graph: ir.Graph, after: ir.Node, value: ir.Value, to: ir.DataType, name: str) -> ir.Value:
    cast = ir.node("Cast", [value], {"to": to}, name=name)
    cast.outputs[0].name, cast.outputs[0].type, cast.outputs[0].shape = name, ir.TensorType(to), value.shape
    graph.insert_after(after, cast)
    return cast.outputs[0]


def _widens(node: ir.Node) -> bool:
    value = node.inputs[0] if node.op_type == "Cast" and not node.domain else None
    return is_constant(value) and value.dtype == ir.DataType.FLOAT16
