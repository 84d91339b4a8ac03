"""Tables in INT8: rows are picked as codes, and only those are widened.

ONNX Runtime would dequantize the whole table at every inference: a DequantizeLinear of constants is never folded.
"""

from __future__ import annotations

import onnx_ir as ir

from dsedge.backends.onnxruntime.blocks import initializer
from dsedge.passes.edit import fresh


def stored_table(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear through which a Gather picks rows of a symmetric INT8 table, None for any other node."""
    value = node.inputs[0] if node.op_type == "Gather" and not node.domain else None
    dq = value.producer() if value is not None else None
    if dq is None or dq.op_type != "DequantizeLinear" or bool(node.attributes.get_int("axis", 0)):
        return None
    constants = [v.const_value for v in dq.inputs if v is not None and v.const_value is not None]
    by_row = dq.attributes.get_int("axis", 1) == 0 and "block_size" not in dq.attributes
    if len(constants) != len(dq.inputs) or constants[0].dtype != ir.DataType.INT8 or constants[1].size == 1:
        return None
    return dq if by_row and (len(constants) < 3 or not constants[2].numpy().any()) else None


def widened(graph: ir.Graph, node: ir.Node, dq: ir.Node, taken: set[str]) -> None:
    """Pick rows and their scales, and multiply: Gather, Cast, Gather, Mul in place of DequantizeLinear, Gather."""
    (codes, scale), indices, result = dq.inputs[:2], node.inputs[1], node.outputs[0]
    assert codes is not None and scale is not None and scale.const_value is not None
    column = initializer(graph, f"{scale.name}_column", scale.const_value.numpy().reshape(-1, 1))

    def value(suffix: str, dtype: ir.DataType) -> ir.Value:
        return ir.Value(name=fresh(f"{result.name}_{suffix}", taken), type=ir.TensorType(dtype))

    rows, wide = value("codes", ir.DataType.INT8), value("wide", ir.DataType.FLOAT)
    scales, out = value("scales", ir.DataType.FLOAT), ir.Value(type=result.type, shape=result.shape)
    made = [
        ir.node("Gather", [codes, indices], {"axis": 0}, outputs=[rows], name=node.name),
        ir.node("Cast", [rows], {"to": int(ir.DataType.FLOAT)}, outputs=[wide], name=f"{node.name}_wide"),
        ir.node("Gather", [column, indices], {"axis": 0}, outputs=[scales], name=f"{node.name}_scales"),
        ir.node("Mul", [wide, scales], outputs=[out], name=f"{node.name}_scaled"),
    ]
    graph.insert_before(node, made)
    name = result.name
    result.replace_all_uses_with(out, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    result.name, out.name = None, name
    if not dq.outputs[0].uses():
        graph.remove(dq, safe=True)
