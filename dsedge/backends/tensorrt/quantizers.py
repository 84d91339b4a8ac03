"""What rules ask about the quantizers of a graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
EIGHTS = (ir.DataType.INT8, ir.DataType.UINT8)
_MOVED = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Slice Split Gather Tile Expand DepthToSpace SpaceToDepth "
    "MaxPool GlobalMaxPool".split()
)
FLOAT8 = tuple(dtype for dtype in ir.DataType if dtype.name.startswith("FLOAT8"))


def nodes(model: ir.Model, *types: str) -> Iterator[ir.Node]:
    """Nodes of some types of ONNX's own domain, those in bodies of control flow and functions included."""
    bodies: tuple[ir.Graph | ir.Function, ...] = (model.graph, *model.functions.values())
    return (n for body in bodies for n in body.all_nodes() if n.domain in ("", "ai.onnx") and n.op_type in types)


def quantizers(model: ir.Model) -> Iterator[ir.Node]:
    """All QuantizeLinear and DequantizeLinear nodes."""
    return nodes(model, "QuantizeLinear", "DequantizeLinear")


def constant(node: ir.Node, index: int) -> np.ndarray | None:
    """A constant input of a node as float64 or as the integers it holds; None where there is none."""
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = value.const_value if value is not None else None
    if tensor is None:
        return None
    array = tensor.numpy()
    return array if array.dtype.kind in "iub" else array.astype(np.float64)


def code_type(node: ir.Node) -> ir.DataType:
    """Type of the codes that a quantizer writes or reads; ONNX's default without a zero point is uint8."""
    if node.op_type == "DequantizeLinear" and node.inputs[0] is not None and node.inputs[0].dtype is not None:
        return node.inputs[0].dtype
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if zero_point is not None and zero_point.dtype is not None:
        return zero_point.dtype
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node.op_type == "DequantizeLinear" and maker is not None and maker.op_type == "QuantizeLinear":
        return code_type(maker)
    stated = node.attributes.get_int("output_dtype", 0) if node.op_type == "QuantizeLinear" else 0
    return ir.DataType(stated) if stated else ir.DataType.UINT8


def dequantized(node: ir.Node, index: int) -> ir.Node | None:
    """The DequantizeLinear that makes an input of a node."""
    value = node.inputs[index] if index < len(node.inputs) else None
    maker = value.producer() if value is not None else None
    return maker if maker is not None and maker.op_type == "DequantizeLinear" else None


def behind(node: ir.Node, index: int) -> ir.Node | None:
    """The DequantizeLinear that an input of a product comes from, past what NVIDIA's compiler moves quantizers over.

    That is what moves values or compares them, a concatenation of codes in one scale, and before a convolution a
    constant factor.
    """
    maker = _maker(node.inputs[index] if index < len(node.inputs) else None, node.op_type)
    if maker is None or maker.op_type != "Concat":
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None
    sources = [_maker(each, node.op_type) for each in maker.inputs]
    if any(source is None or source.op_type != "DequantizeLinear" for source in sources):
        return None
    scales = [constant(source, 1) for source in sources if source is not None]
    same = scales[0] is not None and all(other is not None and np.array_equal(scales[0], other) for other in scales)
    return sources[0] if same else None


def _maker(value: ir.Value | None, product: str) -> ir.Node | None:
    """The node that makes a value, past nodes of one source that quantizers are moved over."""
    while value is not None and (maker := value.producer()) is not None:
        if maker.op_type in _MOVED or (maker.op_type == "Pad" and not np.any(constant(maker, 2))):
            value = maker.inputs[0]
            continue
        computed = [v for v in maker.inputs if v is not None and v.const_value is None]
        if maker.op_type != "Mul" or product != "Conv" or len(computed) != 1:
            return maker
        value = computed[0]
    return None


def of_constant(node: ir.Node) -> bool:
    """Whether a quantizer works on a constant, perhaps on one that is quantized in the graph."""
    value = node.inputs[0]
    maker = value.producer() if value is not None else None
    if maker is not None and maker.op_type == "QuantizeLinear":
        return of_constant(maker)
    return value is not None and value.const_value is not None


def per_channel(node: ir.Node) -> bool:
    """Whether a quantizer has a scale for each channel."""
    scale = node.inputs[1]
    array = constant(node, 1)
    rank = array.ndim if array is not None else len(scale.shape) if scale is not None and scale.shape else 0
    return rank == 1 and (array is None or array.size > 1)
