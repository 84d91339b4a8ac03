"""Guard: what the graph says is float stays float.

ONNX Runtime's optimizer (WeightBiasQuantization) quantizes the float weights of any Conv, ConvTranspose or Gemm that
reads a DequantizeLinear: per tensor, whatever that costs in accuracy, and nobody is told. A layer that an accuracy gate
had returned to float would run in INT8 all the same. A Clip to the least and greatest number that the codes stand for
changes nothing and parts the two.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_QUANTIZED_SILENTLY = frozenset(("Conv", "ConvTranspose", "Gemm"))


def guard(model: ir.Model) -> ir.Model:
    """Part float layers from the DequantizeLinear that they read.

    Args:
        model: a Q/DQ graph; left as it is.

    Returns:
        The model itself when there is nothing to do, else a copy with a Clip before each such layer.
    """
    if not any(_exposed(node) for node in model.graph):
        return model
    model = model.clone()
    graph = model.graph
    guarded: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        dequantize = _exposed(node)
        if dequantize is None:
            continue
        value = dequantize.outputs[0]
        if value not in guarded:
            guarded[value] = _clipped(graph, dequantize)
        node.replace_input_with(0, guarded[value])
    return model


def _exposed(node: ir.Node) -> ir.Node | None:
    """The DequantizeLinear that a layer with float weights reads directly, when the optimizer would act on it."""
    if node.op_type not in _QUANTIZED_SILENTLY or node.domain or node.inputs[0] is None:
        return None
    producer = node.inputs[0].producer()
    if producer is None or producer.op_type != "DequantizeLinear" or producer.domain:
        return None
    weight, scale = node.inputs[1], producer.inputs[1]
    per_tensor = scale is not None and scale.const_value is not None and scale.const_value.size == 1
    return producer if per_tensor and weight is not None and weight.const_value is not None else None


def _clipped(graph: ir.Graph, dequantize: ir.Node) -> ir.Value:
    value, codes, scale = dequantize.outputs[0], dequantize.inputs[0], dequantize.inputs[1]
    zero = dequantize.inputs[2] if len(dequantize.inputs) > 2 else None
    assert codes is not None and codes.dtype is not None and scale is not None and scale.const_value is not None
    zero_point = 0 if zero is None or zero.const_value is None else int(zero.const_value.numpy().ravel()[0])
    limits = np.iinfo(codes.dtype.numpy())
    bounds = [np.float32(code - zero_point) * scale.const_value.numpy().ravel()[0] for code in (limits.min, limits.max)]
    inputs = [
        value,
        *(_bound(graph, f"{value.name}_{side}", b) for side, b in zip(("low", "high"), bounds, strict=True)),
    ]
    clip = ir.node("Clip", inputs, name=f"{value.name}_guard")
    result = clip.outputs[0]
    result.name, result.type, result.shape = f"{value.name}_guarded", value.type, value.shape
    graph.insert_after(dequantize, clip)
    return result


def _bound(graph: ir.Graph, name: str, number: np.float32) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(np.array(number, np.float32), name=name))
    graph.register_initializer(value)
    return value
