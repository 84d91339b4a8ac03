"""Lower: what a Q/DQ graph says in ONNX's words, in ONNX Runtime's own operators where its optimizer has no pattern."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from dsedge.backends.onnxruntime.blocks import DOMAIN, in_blocks, initializer, stored_blocks
from dsedge.backends.onnxruntime.channels_last import move_codes, on_codes
from dsedge.backends.onnxruntime.dynamic import dynamic_product, dynamic_weights
from dsedge.backends.onnxruntime.hard_swish import between_codes, multiply_codes
from dsedge.backends.onnxruntime.pointwise import as_product, pointwise_to_float
from dsedge.backends.onnxruntime.qgemm import before_activation, qgemm
from dsedge.backends.onnxruntime.tables import stored_table, widened
from dsedge.passes.edit import value_names

_KEPT = ("direction", "hidden_size", "activations", "activation_alpha", "activation_beta", "clip", "input_forget")


def lower(model: ir.Model) -> ir.Model:
    """Replace what the optimizer has no pattern for by operators that it runs in INT8 or INT4.

    An LSTM that reads INT8 weights becomes DynamicQuantizeLSTM, a linear layer whose input is to be quantized as it
    comes DynamicQuantizeMatMul, one whose result an activation reads in float QGemm, INT4 blocks the runtime's
    operators for them, a Gather of an INT8 table one of codes, HardSwish between codes INT8 sums and products, and
    operators that move or select codes what is faster.

    Args:
        model: a Q/DQ graph; left as it is.

    Returns:
        The model itself when there is nothing to do, else a copy.
    """
    lowered = (
        _stored_weights,
        dynamic_weights,
        stored_blocks,
        stored_table,
        pointwise_to_float,
        before_activation,
        on_codes,
        between_codes,
    )
    if not any(found(node) for node in model.graph for found in lowered):
        return model
    model = model.clone()
    taken = value_names(model)
    for node in list(model.graph):
        if weights := _stored_weights(node):
            _replace(model.graph, node, _dynamic_lstm(model.graph, node, weights), weights)
        elif product := dynamic_weights(node):
            _replace(model.graph, node, dynamic_product(model.graph, node, product), (product,))
        elif blocks := stored_blocks(node):
            _replace(model.graph, node, in_blocks(model.graph, node, blocks), (blocks,))
        elif table := stored_table(node):
            widened(model.graph, node, table, taken)
        elif pair := pointwise_to_float(node):
            as_product(model.graph, node, *pair, taken)
        elif pairs := before_activation(node):
            _replace(model.graph, node, qgemm(node, pairs), pairs)
        elif ends := on_codes(node):
            move_codes(model.graph, node, *ends, taken)
        elif codes := between_codes(node):
            multiply_codes(model.graph, node, *codes)
    model.opset_imports[DOMAIN] = 1
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


def _dynamic_lstm(graph: ir.Graph, node: ir.Node, weights: tuple[ir.Node, ir.Node]) -> ir.Node:
    arrays = [_transposed(graph, dq) for dq in weights]
    (w, w_scale, w_zero), (r, r_scale, r_zero) = arrays
    rest = [node.inputs[i] if i < len(node.inputs) else None for i in range(3, 8)]
    return ir.node(
        "DynamicQuantizeLSTM",
        [node.inputs[0], w, r, *rest, w_scale, w_zero, r_scale, r_zero],
        {name: node.attributes[name] for name in _KEPT if name in node.attributes},
        domain=DOMAIN,
        num_outputs=len(node.outputs),
        name=node.name,
    )


def _replace(graph: ir.Graph, node: ir.Node, fused: ir.Node, weights: Iterable[ir.Node]) -> None:
    """Put `fused` where a node is, and drop the DequantizeLinear nodes that nothing else reads."""
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
        initializer(graph, f"{name}_transposed", np.ascontiguousarray(codes.transpose(0, 2, 1))),
        initializer(graph, f"{name}_scale_rows", np.broadcast_to(scale, rows).copy()),
        initializer(graph, f"{name}_zero_point_rows", np.broadcast_to(zero_point, rows).copy()),
    )
