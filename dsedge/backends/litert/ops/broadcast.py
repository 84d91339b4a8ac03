"""Broadcasting: the operands of one operator in one order of axes, over as many axes as TFLite's kernels take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import constant_of, dequantized, encoded, signed
from dsedge.backends.litert.decide import written_as
from dsedge.backends.litert.emitter import CannotEmit, Emitter, Order, dtype_of
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.writer import input_of
from dsedge.quant.plan import QParams

MAX_AXES = 4
"""Over how many axes every kernel broadcasts. Some take six, but tflite-runtime 2.14 ends the process at five."""
_MAX_SPREAD = 8
"""Over how many axes BROADCAST_TO does."""

Shape = tuple[int, ...]
Write = Callable[[list[Tensor], Tensor], None]


def broadcast(e: Emitter, node: ir.Node, indices: Sequence[int], write: Write) -> None:
    """Write an operator whose operands broadcast against each other.

    The axes lie as in that operand of full rank, no constant, for which the fewest bytes are transposed. Where kernels
    take fewer axes, neighbours that every operand has or lacks together become one; where that is not enough, the
    smaller operands are written out.

    Args:
        e: writes.
        node: its first output is the result.
        indices: of the operands.
        write: writes the operator, given the operands and what it writes.

    Raises:
        CannotEmit: an operand broadcasts over more than eight axes.
    """
    result = e.shape(node.outputs[0])
    order = _order(e, node, indices, len(result))
    shapes = [_ordered(e.shape(input_of(node, i)), order) for i in indices]
    whole = tuple(result[axis] for axis in order)
    joined, over = shapes, whole
    if any(shape != whole for shape in shapes) and len(whole) > MAX_AXES:
        joined, over = _joined(shapes, whole)
        if len(over) > _MAX_SPREAD:
            raise CannotEmit(f"it broadcasts over {len(over)} axes, TFLite over {_MAX_SPREAD} at most")
    operands = [_operand(e, node, i, order, shape) for i, shape in zip(indices, joined, strict=True)]
    if len(over) > MAX_AXES:
        operands = [_spread(e, x, over) for x in operands]
    out = e.output(node, order)
    target = out if over == whole else e.temporary("joined", over, out)
    write(operands, target)
    if target is not out:
        e.reshape(target, out)


def _order(e: Emitter, node: ir.Node, indices: Sequence[int], rank: int) -> Order:
    read = [i for i in indices if constant_of(input_of(node, i)) is None and len(e.shape(input_of(node, i))) == rank]
    places = [e.placed(node, i) for i in read]

    def moved(order: Order) -> int:
        others = (placed.tensor for placed in places if placed.order != order)
        return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in others)

    return min((placed.order for placed in places), key=moved, default=tuple(range(rank)))


def _ordered(shape: Shape, order: Order) -> Shape:
    """A shape in an order of the result's axes; it has length 1 along those that it lacks."""
    missing = len(order) - len(shape)
    return tuple(1 if axis < missing else shape[axis - missing] for axis in order)


def _joined(shapes: Sequence[Shape], whole: Shape) -> tuple[list[Shape], Shape]:
    """Operands and result with neighbouring axes made one where every operand has both of them or neither."""
    groups: list[tuple[list[bool], list[int]]] = []
    for axis, size in enumerate(whole):
        has = [shape[axis] == size for shape in shapes]
        if groups and (size == 1 or groups[-1][0] == has):
            groups[-1][1].append(axis)
        else:
            groups.append((has, [axis]))
    sides = [tuple(math.prod(shape[axis] for axis in axes) for _, axes in groups) for shape in (*shapes, whole)]
    return sides[:-1], sides[-1]


def _operand(e: Emitter, node: ir.Node, index: int, order: Order, shape: Shape) -> Tensor:
    """An operand in an order of the result's axes, reshaped to `shape`."""
    value = input_of(node, index)
    own = e.shape(value)
    missing = len(order) - len(own)
    if constant_of(value) is not None:
        array, params = _constant(e, node, index)
        array = array.reshape((1,) * missing + own).transpose(order)
        return e.constant(value.name or "", array.reshape(shape), params)
    x = e.tensor(node, index, tuple(axis - missing for axis in order if axis >= missing))
    if (1,) * (len(shape) - len(x.shape)) + x.shape == shape:
        return x  # leading axes are added by the kernel
    out = e.temporary("wide", shape, x)
    e.reshape(x, out)
    return out


def _constant(e: Emitter, node: ir.Node, index: int) -> tuple[np.ndarray, QParams | None]:
    """A constant operand: codes where the node is INT8, under the output's scale where the kernel wants one scale."""
    found = constant_of(input_of(node, index))
    assert found is not None
    if found[1] is None or not e.is_int8(node):
        array = e.array(node, index)
        assert array is not None
        return array.astype(np.float32) if array.dtype == np.float16 else array, None
    codes, params = signed(found[0], found[1])
    target = written_as(node.outputs[0]) if e.ops[node.op_type].same else None
    if target is None:
        return codes, params
    array = e.array(node, index)
    assert array is not None
    return encoded(array, target), target


def _spread(e: Emitter, x: Tensor, shape: Shape) -> Tensor:
    if x.shape == shape:
        return x
    out = e.temporary("spread", shape, x)
    sides = e.constant("shape", np.array(shape, np.int32))
    e.op("BROADCAST_TO", [x, sides], [out], e.options("BroadcastToOptions"))
    return out


def takes(node: ir.Node, index: int, op: str, types: str) -> None:
    """Check the type of an input that is no codes.

    Args:
        node: reads it.
        index: of the input.
        op: TFLite's operator.
        types: those that it has kernels for, in both runtimes.

    Raises:
        CannotEmit: it is another one.
    """
    dtype = dtype_of(input_of(node, index))
    if dtype not in types.split():
        raise CannotEmit(f"TFLite's {op} has no kernel for {dtype}")


def number(node: ir.Node, index: int) -> float | None:
    """A constant operand of one element; None where it is something else, or gives the first operand further axes."""
    value, result = node.inputs[index], node.outputs[0].shape
    found = constant_of(value) if value is not None else None
    first = node.inputs[0].shape if node.inputs[0] is not None else None
    if found is None or found[0].size != 1 or result is None or first is None or len(result) != len(first):
        return None
    array, params = found
    real = array if params is None else dequantized(array.reshape(()), params)
    return float(real.reshape(()))
