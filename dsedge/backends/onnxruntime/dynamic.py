"""Linear layers whose inputs are quantized as they come: DynamicQuantizeMatMul.

One kernel finds the range of its input, rounds it to 8 bits, multiplies codes and gives real numbers. ONNX has no
operator for that, and the optimizer no pattern: a product of real numbers and dequantized weights stays float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.onnxruntime.blocks import DOMAIN, initializer
from dsedge.passes.edit import PRECISION
from dsedge.quant.annotate import annotate
from dsedge.quant.conditions import gemm_axis
from dsedge.quant.contract import Contract
from dsedge.quant.precision import annotate_as_asked, parse_request

_RECURRENT = ("LSTM", "GRU", "RNN")


def dynamic_weights(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear of a linear layer's weights, where the plan has its inputs quantized as they come.

    The weights of a graph that came quantized may stand behind one for the sake of size alone: those stay as they are.
    """
    if node.op_type not in ("Gemm", "MatMul") or node.metadata_props.get(PRECISION) != "int8_dynamic":
        return None
    dq = node.inputs[1].producer() if node.inputs[1] is not None else None
    if dq is None or dq.op_type != "DequantizeLinear":
        return None
    return dq if all(v is not None and v.const_value is not None for v in dq.inputs) else None


def dynamic_product(graph: ir.Graph, node: ir.Node, dq: ir.Node) -> ir.Node:
    """DynamicQuantizeMatMul: y = x W + bias, W stored as [K, N], a scale a column; it is not in the graph yet."""
    codes, scale = (v.const_value.numpy() for v in dq.inputs[:2] if v is not None and v.const_value is not None)
    columns = codes if gemm_axis(node) else np.ascontiguousarray(codes.T)
    name = dq.outputs[0].name
    inputs = [
        node.inputs[0],
        initializer(graph, f"{name}_columns", columns),
        initializer(graph, f"{name}_scales", scale),
        None,  # the zero point, which is 0
        *node.inputs[2:],
    ]
    return ir.node("DynamicQuantizeMatMul", inputs, domain=DOMAIN, name=node.name)


def also_dynamic(graph: ir.Graph, contract: Contract) -> tuple[str, ...]:
    """INT8 without calibration, for a recurrent net of which it makes something else than INT8 does; else nothing.

    Recurrent layers are dynamic in both. Which of the two suits the linear layers beside them is measured.

    Args:
        graph: the normalized float model.
        contract: of the board.
    """
    if not any(node.op_type in _RECURRENT for node in graph):
        return ()
    static = annotate(graph, contract)
    dynamic = annotate_as_asked(graph, contract, parse_request("int8_dynamic"))
    if not dynamic.quantized or all(static.nodes[name].precision == n.precision for name, n in dynamic.nodes.items()):
        return ()
    return ("int8_dynamic",)
