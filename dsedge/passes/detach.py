"""Around onnx's own tools: weights are set aside before, and what the IR cannot hold is dropped behind them."""

from __future__ import annotations

import onnx
import onnx_ir as ir

_SMALL = 1024  # bytes; axes, pads and shapes are below it, and the tools read them
_NATIVE = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})


def detach_weights(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    """Makes large initializers inputs without data, and returns their data by name."""
    weights: dict[str, ir.TensorProtocol] = {}
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or value.is_graph_output() or value.is_graph_input():
            continue
        if tensor.nbytes > _SMALL or tensor.dtype not in _NATIVE or isinstance(tensor, ir.ExternalTensor):
            weights[name] = tensor
            del graph.initializers[name]
            value.shape, value.type = ir.Shape(tensor.shape), ir.TensorType(tensor.dtype)  # type: ignore[arg-type]
            graph.inputs.append(value)
    return weights


def attach_weights(graph: ir.Graph, weights: dict[str, ir.TensorProtocol]) -> None:
    """Makes the inputs that `detach_weights` left initializers again, in this graph or in one made from it."""
    for value in [value for value in graph.inputs if value.name in weights]:
        assert value.name is not None
        graph.inputs.remove(value)
        value.const_value = weights[value.name]
        graph.register_initializer(value)


def forget_maps(graph: onnx.GraphProto) -> None:
    """Drops the types of map outputs and values, which the IR cannot hold; a runtime knows them from the operators."""
    for value in (*graph.output, *graph.value_info):
        if holds_map(value.type):
            value.ClearField("type")


def holds_map(kind: onnx.TypeProto) -> bool:
    """Whether a type is a map, or a sequence of them."""
    return kind.HasField("map_type") or (kind.HasField("sequence_type") and holds_map(kind.sequence_type.elem_type))
