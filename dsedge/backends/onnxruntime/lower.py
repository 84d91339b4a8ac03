"""Lower: what a Q/DQ graph says in ONNX's words, in ONNX Runtime's own operators where its optimizer has no pattern."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_DOMAIN = "com.microsoft"
_KEPT = ("direction", "hidden_size", "activations", "activation_alpha", "activation_beta", "clip", "input_forget")


def lower(model: ir.Model) -> ir.Model:
    """Replace every LSTM that reads INT8 weights through DequantizeLinear by DynamicQuantizeLSTM.

    Args:
        model: a Q/DQ graph; left as it is.

    Returns:
        The model itself when there is nothing to do, else a copy.
    """
    if not any(_stored_weights(node) for node in model.graph):
        return model
    model = model.clone()
    for node in list(model.graph):
        if weights := _stored_weights(node):
            _replace(model.graph, node, weights)
    model.opset_imports[_DOMAIN] = 1
    for name in [n for n, v in model.graph.initializers.items() if not v.uses() and not v.is_graph_output()]:
        model.graph.initializers.pop(name)
    return model


def _stored_weights(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The DequantizeLinear nodes of W and R."""
    if node.op_type != "LSTM" or node.domain:
        return None
    producers = [v.producer() if v is not None else None for v in node.inputs[1:3]]
    w, r = producers
    if w is None or r is None or w.op_type != "DequantizeLinear" or r.op_type != "DequantizeLinear":
        return None
    return w, r


def _replace(graph: ir.Graph, node: ir.Node, weights: tuple[ir.Node, ir.Node]) -> None:
    arrays = [_transposed(graph, dq) for dq in weights]
    (w, w_scale, w_zero), (r, r_scale, r_zero) = arrays
    rest = [node.inputs[i] if i < len(node.inputs) else None for i in range(3, 8)]
    fused = ir.node(
        "DynamicQuantizeLSTM",
        [node.inputs[0], w, r, *rest, w_scale, w_zero, r_scale, r_zero],
        {name: node.attributes[name] for name in _KEPT if name in node.attributes},
        domain=_DOMAIN,
        num_outputs=len(node.outputs),
        name=node.name,
    )
    for old, new in zip(node.outputs, fused.outputs, strict=True):
        new.type, new.shape, name = old.type, old.shape, old.name
        old.name = None
        new.name = name
    graph.insert_after(node, fused)
    ir.convenience.replace_all_uses_with(node.outputs, fused.outputs, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    for dq in dict.fromkeys(weights):
        if not dq.outputs[0].uses():
            graph.remove(dq, safe=True)


def _transposed(graph: ir.Graph, dq: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Weights [directions, 4*hidden, k] as the kernel wants them: [directions, k, 4*hidden], a scale a direction."""
    codes, scale, zero_point = (v.const_value.numpy() for v in dq.inputs if v is not None and v.const_value is not None)
    directions = codes.shape[0]
    rows = (directions,) if scale.ndim == 0 else (directions, scale.size)
    name = dq.inputs[0].name if dq.inputs[0] is not None else dq.name
    return (
        _initializer(graph, f"{name}_transposed", np.ascontiguousarray(codes.transpose(0, 2, 1))),
        _initializer(graph, f"{name}_scale_rows", np.broadcast_to(scale, rows).copy()),
        _initializer(graph, f"{name}_zero_point_rows", np.broadcast_to(zero_point, rows).copy()),
    )


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
