"""INT4 blocks in ONNX Runtime's own operators: MatMulNBits for linear layers, GatherBlockQuantized for tables.

The runtime's optimizer finds some of these patterns by itself, which depends on its version and on how a Gemm lies;
written out they need no opset 21 types, and any version since 1.18 runs them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsedge.backends.onnxruntime.contract import BLOCKED

DOMAIN = "com.microsoft"

_SIZES = (16, 32, 64, 128, 256)

_INT8_ACTIVATIONS = 4
"""accuracy_level: activations are rounded to INT8 in the same blocks as they come. `tools/int4_linear.py` measures it
against 0, float arithmetic: 1.1 to 3 times as fast, with no loss that is seen beside that of 4-bit weights."""

Codes = npt.NDArray[np.uint8]


def stored_blocks(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear through which a linear layer or a table reads INT4 blocks, None for any other node.

    A Q/DQ graph that came quantized may hold blocks that the contract would not have made; those are left as they are.
    """
    rule = next((rule for rule in BLOCKED if rule.op == node.op_type and not node.domain), None)
    value = node.inputs[rule.weights[0]] if rule is not None else None
    dq = value.producer() if value is not None else None
    if rule is None or dq is None or dq.op_type != "DequantizeLinear":
        return None
    constants = [v for v in dq.inputs if v is not None and v.const_value is not None]
    if len(constants) != 3 or constants[0].dtype != ir.DataType.UINT4:
        return None
    fits = dq.attributes.get_int("axis", 1) == rule.channel_axis(node) and not any(when(node) for when in rule.when)
    return dq if fits and dq.attributes.get_int("block_size", 0) in _SIZES else None


def in_blocks(graph: ir.Graph, node: ir.Node, dq: ir.Node) -> ir.Node:
    """The runtime's operator for a node that reads INT4 blocks through `dq`; it is not in the graph yet."""
    return _table(node, dq) if node.op_type == "Gather" else _linear(graph, node, dq)


def _linear(graph: ir.Graph, node: ir.Node, dq: ir.Node) -> ir.Node:
    """MatMulNBits: y = x W + bias, W stored as [N, blocks, block / 2] bytes, scales [N, blocks]."""
    block, axis = dq.attributes.get_int("block_size", 0), dq.attributes.get_int("axis", 1)
    name = dq.outputs[0].name
    codes, scale, zero_point = _arrays(dq)
    if axis == 0:
        codes, scale, zero_point = codes.T, scale.T, zero_point.T
    n, k = codes.shape
    codes = np.pad(codes, ((0, 0), (0, -k % block))).reshape(n, -1, block)
    inputs = [
        node.inputs[0],
        initializer(graph, f"{name}_blocks", _packed(codes)),
        initializer(graph, f"{name}_scales", np.ascontiguousarray(scale).reshape(-1)),
        initializer(graph, f"{name}_zero_points", _packed(zero_point).reshape(-1)),
        *((None, node.inputs[2]) if len(node.inputs) > 2 else ()),  # None: an index of groups
    ]
    sizes = {"K": k, "N": n, "bits": 4, "block_size": block, "accuracy_level": _INT8_ACTIVATIONS}
    return ir.node("MatMulNBits", inputs, sizes, domain=DOMAIN, name=node.name)


def _table(node: ir.Node, dq: ir.Node) -> ir.Node:
    """GatherBlockQuantized: rows of [V, D] with blocks along D."""
    attributes = {"gather_axis": 0, "quantize_axis": 1, "block_size": dq.attributes.get_int("block_size", 0)}
    data, scale, zero_point = dq.inputs
    return ir.node(
        "GatherBlockQuantized", [data, node.inputs[1], scale, zero_point], attributes, domain=DOMAIN, name=node.name
    )


def _arrays(dq: ir.Node) -> tuple[Codes, npt.NDArray[np.float32], Codes]:
    codes, scale, zero_point = (v.const_value.numpy() for v in dq.inputs if v is not None and v.const_value is not None)
    return codes.astype(np.uint8), scale, zero_point.astype(np.uint8)


def _packed(codes: Codes) -> Codes:
    """Two codes a byte along the last axis, the first in the low half; an odd one is followed by zero."""
    codes = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)])
    return np.asarray(codes[..., 0::2] | (codes[..., 1::2] << 4), np.uint8)


def initializer(graph: ir.Graph, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """A constant of a graph; the one that is there already when two nodes share it."""
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
