"""Where in a graph TensorRT's INT8 kernels pay: conditions on a node and what lies around it.

Sources: NVIDIA, "TensorRT developer guide", chapter "Working with quantized types" (placement of Q/DQ, fusion of sums),
and what its compiler made of each pattern (`tests/backends/tensorrt/test_contract.py`).
"""

from __future__ import annotations

import onnx_ir as ir

from dsedge.quant.conditions import gemm_axis

LEAST = 16
"""Lanes of an INT8 tensor-core instruction: fewer channels, rows or columns are padded to as many."""

_MOVES = "Reshape Transpose Slice Concat Pad SpaceToDepth Identity Cast".split()
_UNARY = "Relu Clip LeakyRelu PRelu Elu Selu HardSwish HardSigmoid Sigmoid Tanh Mish Softplus Gelu".split()
_BLOCK = 64


def few_channels(node: ir.Node) -> str | None:
    """A convolution over few channels is padded; the first one gains all the same, since its input is large."""
    weight = node.inputs[1]
    if weight is None or weight.shape is None or _reads_model_input(node):
        return None
    out, per_group = weight.shape[0], weight.shape[1]
    ins = per_group * node.attributes.get_int("group", 1) if isinstance(per_group, int) else per_group
    few = [size for size in (ins, out) if isinstance(size, int) and size < LEAST]
    return f"{min(few)} channels fill less than the {LEAST} lanes of an INT8 instruction" if few else None


def small_product(node: ir.Node) -> str | None:
    """A product whose matrix is narrow, or with a single row, is bound by memory and has no INT8 kernel that pays."""
    matrix = node.inputs[1].shape if node.inputs[1] is not None else None
    if matrix is None:
        return None
    small = [size for size in matrix if isinstance(size, int) and size < LEAST]
    if small:
        return f"its matrix has a side of {min(small)}, less than the {LEAST} lanes of an INT8 instruction"
    left = node.inputs[0].shape if node.inputs[0] is not None else None
    if left is None:
        return None
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0) == 1
    rows = [left[1]] if transposed else list(left[:-1])
    return "a product of a matrix and one vector" if all(row == 1 for row in rows) else None


def in_blocks(node: ir.Node) -> str | None:
    """INT4 blocks go along the axis that is summed over, and fill it; with a single one the compiler widens all."""
    shape = node.inputs[1].shape if node.inputs[1] is not None else None
    length = shape[1 - gemm_axis(node)] if shape is not None and len(shape) == 2 else None
    if isinstance(length, int) and length > _BLOCK and length % _BLOCK == 0:
        return None
    return f"{length} inputs are not two or more whole blocks of {_BLOCK}"


def in_pyramid(node: ir.Node) -> bool:
    """Whether a node is part of a pyramid: a value joined with pools of it, and pools of those.

    With a quantizer only behind it the compiler computes a chain of pools anew for every link that is joined. Values
    that are no pools of one would lose by one scale: what else reads them, as in a dense block, needs its own.
    """
    if node.op_type == "MaxPool":
        return any(user.op_type == "Concat" and in_pyramid(user) for user, _ in node.outputs[0].uses())
    return len(node.inputs) > 1 and len(set(map(_pooled, node.inputs))) == 1


def _pooled(value: ir.Value | None) -> ir.Value | None:
    """What a value is a pool of, and itself where it is none."""
    while value is not None and (node := value.producer()) is not None and node.op_type == "MaxPool":
        value = node.inputs[0]
    return value


def fused_sum(node: ir.Node) -> str | None:
    """A sum of two values of one shape pays where an INT8 convolution takes it up into its kernel."""
    return None if merged_input(node) is not None else "no convolution takes this sum up into its kernel"


def skip_input(node: ir.Node) -> tuple[int, ...]:
    """The input of a sum that is read as codes: the one that is not summed inside of the kernel that makes it."""
    merged = merged_input(node)
    return tuple(i for i in range(len(node.inputs)) if i != merged)


def merged_input(node: ir.Node) -> int | None:
    """Index of the input of a sum whose convolution takes it up: of two the one at the end of the longer path.

    The shorter path is finished first, so that its result can be read when the longer one's last kernel runs.
    """
    shapes = [value.shape for value in node.inputs if value is not None and value.const_value is None]
    if len(shapes) != 2 or shapes[0] is None or shapes[0] != shapes[1]:
        return None  # a constant, or one that is repeated along an axis
    found = [i for i, value in enumerate(node.inputs) if _from_convolution(value)]
    if len(found) < 2 or node.graph is None:
        return found[0] if found else None
    ranks = _ranks(node.graph, node)
    return max(found, key=lambda i: ranks.get(node.inputs[i].producer(), (0, 0)))  # type: ignore[union-attr]


def _ranks(graph: ir.Graph | ir.Function, end: ir.Node) -> dict[ir.Node | None, tuple[int, int]]:
    """For each node before `end` the length of the longest path to it, and its place in the graph."""
    ranks: dict[ir.Node | None, tuple[int, int]] = {}
    for place, node in enumerate(graph):
        if node is end:
            break
        before = (ranks.get(value.producer(), (0, 0))[0] for value in node.inputs if value is not None)
        ranks[node] = (max(before, default=0) + 1, place)
    return ranks


def _from_convolution(value: ir.Value | None) -> bool:
    """Whether an INT8 convolution's kernel makes a value: all between is elementwise, and nothing else reads it."""
    readers = 1
    while value is not None and len(value.uses()) == readers and not value.is_graph_output():
        node = value.producer()
        if node is None or node.op_type == "Conv":
            return node is not None and few_channels(node) is None
        gated = _silu_input(node)
        if gated is not None:
            value, readers = gated, 2
        elif node.op_type in _UNARY or (node.op_type in ("Mul", "Add", "BatchNormalization") and _by_constants(node)):
            value, readers = next((v for v in node.inputs if v is not None and v.const_value is None), None), 1
        else:
            return False
    return False


def _silu_input(node: ir.Node) -> ir.Value | None:
    """x of x * sigmoid(x)."""
    if node.op_type != "Mul" or len(node.inputs) != 2:
        return None
    for value, other in (node.inputs, node.inputs[::-1]):
        producer = value.producer() if value is not None else None
        if producer is not None and producer.op_type == "Sigmoid" and producer.inputs[0] is other:
            return other
    return None


def _by_constants(node: ir.Node) -> bool:
    return sum(value is not None and value.const_value is None for value in node.inputs) == 1


def _reads_model_input(node: ir.Node) -> bool:
    """Whether a convolution is a first one: only operators that move values stand before it."""
    value = node.inputs[0]
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type not in _MOVES:
            return False
        value = producer.inputs[0] if producer.inputs else None
    return value is not None and value.is_graph_input()
