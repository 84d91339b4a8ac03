"""INT4 blocks as TensorRT reads them: signed codes without a zero point."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dsedge.errors import BuildError
from dsedge.passes.edit import is_constant, label

_MIDDLE = 8


def to_signed(model: ir.Model) -> ir.Model:
    """Unsigned 4-bit codes around 8 as signed ones around 0: the same numbers.

    Args:
        model: a Q/DQ graph; left as it is.

    Returns:
        The model itself when it holds no such codes, else a copy.

    Raises:
        BuildError: DS401 when a zero point is another one: TensorRT's blocks are symmetric.
    """
    if not holds_blocks(model):
        return model
    model = model.clone()
    signed: dict[ir.Value, ir.Value] = {}
    for node in [node for node in model.graph if _in_blocks(node)]:
        codes, zero = node.inputs[0], node.inputs[2] if len(node.inputs) > 2 else None
        assert codes is not None and codes.const_value is not None
        if not is_constant(zero) or zero.const_value is None or np.any(zero.const_value.numpy() != _MIDDLE):
            because = f"TensorRT's 4-bit codes are signed, so the zero point of unsigned ones must be {_MIDDLE}"
            raise BuildError("DS401", "INT4 weights have a zero point", where=label(node), because=because)
        if codes not in signed:
            data = codes.const_value.numpy().astype(np.int8) - _MIDDLE
            name = f"{codes.name}_signed"
            tensor = ir.tensor(data.astype(ir.DataType.INT4.numpy()), dtype=ir.DataType.INT4, name=name)
            signed[codes] = ir.val(name, const_value=tensor)
            model.graph.register_initializer(signed[codes])
        node.replace_input_with(0, signed[codes])
        node.replace_input_with(2, None)
        node.resize_inputs(2)
    for name in [n for n, v in model.graph.initializers.items() if not v.uses() and not v.is_graph_output()]:
        model.graph.initializers.pop(name)
    return model


def holds_blocks(model: ir.Model) -> bool:
    """Whether a graph holds weights as unsigned 4-bit codes."""
    return any(_in_blocks(node) for node in model.graph)


def _in_blocks(node: ir.Node) -> bool:
    codes = node.inputs[0] if node.op_type == "DequantizeLinear" and node.inputs else None
    return is_constant(codes) and codes.dtype == ir.DataType.UINT4
