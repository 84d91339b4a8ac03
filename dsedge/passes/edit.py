"""What passes share: reading constants and shapes, and rewiring a graph without losing names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import numpy as np
import onnx_ir as ir

REPLACES = "dsedge.replaces"
"""Metadata of a node that a backend wrote for another one: that one's type and name, "ConvTranspose up1"."""

PRECISION = "dsedge.precision"
"""Metadata of a node whose pairs do not say how it computes: "float" between Q/DQ pairs, or "int8_dynamic".

Of a Cast "bf16": it stands for the rounding of a node that computes in bfloat16."""

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def nodes(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes of the default domain in the graph and its subgraphs; they may be removed on the way."""
    return (node for node in ir.traversal.RecursiveGraphIterator(model.graph) if node.domain == "")


def is_constant(value: ir.Value | None) -> TypeGuard[ir.Value]:
    """Whether a value is an initializer that no caller can override."""
    return value is not None and value.is_initializer() and not value.is_graph_input() and value.const_value is not None


def array(value: ir.Value) -> np.ndarray:
    """The elements of a constant; read-only."""
    assert value.const_value is not None
    return value.const_value.numpy()


def ints(value: ir.Value | None) -> list[int] | None:
    """The elements of a constant of integers, or None when the value is no such constant."""
    if not is_constant(value) or value.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    return [int(element) for element in array(value).ravel()]


def label(node: ir.Node) -> str:
    """How to name a node to people: its name, or the value it makes."""
    return node.name or next((output.name for output in node.outputs if output.name), None) or node.op_type


def value_names(model: ir.Model) -> set[str]:
    """The names of all values, those of subgraphs included."""
    names: set[str] = set()
    for graph in model.graphs():
        values = (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs))
        names.update(value.name for value in values if value.name)
    return names


def fresh(name: str, taken: set[str]) -> str:
    """`name`, with a number when it is taken; the result is added to `taken`."""
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate)
    return candidate


def set_constant(node: ir.Node, index: int, data: np.ndarray, name: str) -> None:
    """Makes an input of a node the constant `data`.

    A constant that only this node uses is replaced under its own name; otherwise a new initializer `name` is made.
    """
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    old = node.inputs[index]
    if is_constant(old) and len(old.uses()) == 1 and not old.is_graph_output():
        old.const_value = ir.tensor(data, name=old.name)
        old.shape, old.type = ir.Shape(data.shape), ir.TensorType(old.const_value.dtype)
        return
    assert node.graph is not None
    new = ir.val(name, const_value=ir.tensor(data, name=name))
    node.graph.register_initializer(new)
    node.replace_input_with(index, new)


def constant(graph: ir.Graph, name: str, data: np.ndarray, taken: set[str]) -> ir.Value:
    """A new initializer of a graph; `name` gets a number when it is taken."""
    name = fresh(name, taken)
    value = ir.val(name, const_value=ir.tensor(data, name=name))
    graph.register_initializer(value)
    return value


def bypass(node: ir.Node, source: ir.Value) -> bool:
    """Removes a node whose first output equals `source`, and hands `source` to its consumers.

    Where the output is an output of the graph, `source` takes its name. That cannot be when `source` is an input, a
    constant, another output, or belongs to an outer graph: then nothing changes.

    Returns:
        Whether the node was removed.
    """
    output, graph = node.outputs[0], node.graph
    assert graph is not None
    named = output.is_graph_output()
    if named:
        if source.producer() is None or source.graph is not graph or source.is_graph_output():
            return False
        # The declared output keeps the names that the user gave its axes.
        source.shape = source.shape if output.shape is None else output.shape
        source.type = source.type if output.type is None else output.type
    output.replace_all_uses_with(source, replace_graph_outputs=True)
    if named:
        source.name = output.name
    graph.remove(node, safe=True)
    return True
