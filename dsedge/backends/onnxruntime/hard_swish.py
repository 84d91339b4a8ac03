"""HardSwish on codes: the runtime has no INT8 kernel for it, and a float one would convert the data on both sides.

6 * HardSwish(x) is x * clip(x + 3, 0, 6). QLinearAdd with the constant 3 does the sum and, since its codes end at 0 and
6, the clip; QLinearMul writes the product on a scale six times that of the result, so that the division costs nothing.
Howard et al., "Searching for MobileNetV3", 2019.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.backends.onnxruntime.blocks import DOMAIN, initializer


def between_codes(node: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The DequantizeLinear before and the only consumer, a QuantizeLinear, behind a HardSwish."""
    if node.op_type != "HardSwish" or node.domain or node.inputs[0] is None or node.outputs[0].is_graph_output():
        return None
    before, behind = node.inputs[0].producer(), list(node.outputs[0].consumers())
    if before is None or before.op_type != "DequantizeLinear" or len(behind) != 1:
        return None
    return (before, behind[0]) if behind[0].op_type == "QuantizeLinear" else None


def multiply_codes(graph: ir.Graph, node: ir.Node, before: ir.Node, behind: ir.Node) -> None:
    """Put QLinearAdd and QLinearMul where a HardSwish between codes was.

    Args:
        graph: holds the nodes.
        node: the HardSwish.
        before: the DequantizeLinear that it reads; removed when nothing else reads it.
        behind: the QuantizeLinear that alone reads it; removed.
    """
    result, scale, zero_point = behind.outputs[0], behind.inputs[1], behind.inputs[2]
    assert (
        scale is not None and scale.const_value is not None and zero_point is not None and zero_point.dtype is not None
    )
    kind = zero_point.dtype.numpy()
    limits = np.iinfo(kind)
    step = initializer(graph, "hard_swish_step", np.array(6 / 255, np.float32))
    least = initializer(graph, f"hard_swish_least_{kind}", np.array(limits.min, kind))
    three = [
        initializer(graph, f"hard_swish_{kind}", np.array(limits.max, kind)),
        initializer(graph, "hard_swish_three", np.array(3 / 255, np.float32)),
        least,
    ]
    sixfold = initializer(graph, f"{scale.name}_sixfold", scale.const_value.numpy() * np.float32(6))
    gate = ir.node("QLinearAdd", [*before.inputs, *three, step, least], domain=DOMAIN, name=f"{node.name}_gate")
    product = ir.node(
        "QLinearMul",
        [*before.inputs, gate.outputs[0], step, least, sixfold, zero_point],
        domain=DOMAIN,
        name=node.name,
    )
    for new in (gate, product):
        new.outputs[0].type, new.outputs[0].shape = result.type, result.shape
    gate.outputs[0].name, product.outputs[0].name = f"{result.name}_gate", f"{result.name}_sixfold"
    graph.insert_before(node, [gate, product])
    result.replace_all_uses_with(product.outputs[0], replace_graph_outputs=True)
    for old in (behind, node):
        graph.remove(old, safe=True)
    if not before.outputs[0].uses():
        graph.remove(before, safe=True)
