"""Normalizations, from elementwise operators and MEAN: TFLite has no operator of its own for most of them.

All of them compute in float, in the order in which their input is held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CHANNELS_LAST, CannotEmit, Emitter, Op, Order, Placed
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.ops.reduction import reduce

_TINY = float(np.finfo(np.float32).tiny)


def layer_normalization(e: Emitter, node: ir.Node) -> None:
    """LayerNormalization over the last axes."""
    x = e.placed(node, 0)
    rank = len(x.order)
    first = node.attributes.get_int("axis", -1) % rank
    axes = sorted(x.order.index(axis) for axis in range(first, rank))
    out = e.output(node, x.order)
    normal, statistics = _standardized(e, x.tensor, axes, node.attributes.get_float("epsilon", 1e-5))
    _affine(e, normal, [_operand(e, node, i, x.order) for i in (1, 2)], out)
    for index, tensor in enumerate(statistics, 1):
        if index < len(node.outputs) and node.outputs[index].name:
            e.alias(node, Placed(tensor, x.order), index)


def instance_normalization(e: Emitter, node: ir.Node) -> None:
    """InstanceNormalization over space."""
    x = e.placed(node, 0)
    axes = sorted(x.order.index(axis) for axis in range(2, len(x.order)))
    out = e.output(node, x.order)
    normal, _ = _standardized(e, x.tensor, axes, node.attributes.get_float("epsilon", 1e-5))
    _affine(e, normal, [_operand(e, node, i, x.order, 1) for i in (1, 2)], out)


def group_normalization(e: Emitter, node: ir.Node) -> None:
    """GroupNormalization; scale and bias have one value a group before opset 21, one a channel from then on."""
    x, groups = e.placed(node, 0), node.attributes.get_int("num_groups", 1)
    rank = len(x.order)
    last = CHANNELS_LAST.get(rank)
    order = x.order if x.order == last else tuple(range(rank))
    source = e.permuted(x, order)
    value = node.inputs[0]
    assert value is not None
    batch, channels, *space = e.shape(value)
    size, within = math.prod(space), channels // groups
    split, axes = ([batch, size, groups, within], [1, 3]) if order == last else ([batch, groups, within * size], [2])
    apart = e.temporary("groups", split, source)
    e.reshape(source, apart)
    normal, _ = _standardized(e, apart, axes, node.attributes.get_float("epsilon", 1e-5))
    together = e.temporary("normal", source.shape, source)
    e.reshape(normal, together)
    operands = []
    for i in (1, 2):
        array = e.array(node, i)
        assert array is not None
        operands.append(_along(e, np.repeat(array, channels // array.size), order, 1))
    _affine(e, together, operands, e.output(node, order))


def batch_normalization(e: Emitter, node: ir.Node) -> None:
    """BatchNormalization with the statistics of training: one factor and one addend a channel."""
    if node.attributes.get_int("training_mode", 0):
        raise CannotEmit("it is in training mode")
    x = e.placed(node, 0)
    scale, bias, mean, variance = (_constant(e, node, i).astype(np.float64) for i in (1, 2, 3, 4))
    factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    operands = [_along(e, array, x.order, 1) for array in (factor, bias - mean * factor)]
    _affine(e, x.tensor, operands, e.output(node, x.order))


def local_response(e: Emitter, node: ir.Node) -> None:
    """LRN of an image: LOCAL_RESPONSE_NORMALIZATION over channels."""
    size = node.attributes.get_int("size", 1)
    if size % 2 == 0:
        raise CannotEmit(f"a window of {size} channels: TFLite has as many before a channel as behind it")
    value = node.inputs[0]
    assert value is not None
    if len(e.shape(value)) != 4:
        raise CannotEmit(f"a value of rank {len(e.shape(value))}: LOCAL_RESPONSE_NORMALIZATION takes images")
    order = CHANNELS_LAST[4]
    source, out = e.tensor(node, 0, order), e.output(node, order)
    options = e.options(
        "LocalResponseNormalizationOptions",
        radius=size // 2,
        bias=node.attributes.get_float("bias", 1.0),
        alpha=node.attributes.get_float("alpha", 1e-4) / size,
        beta=node.attributes.get_float("beta", 0.75),
    )
    e.op("LOCAL_RESPONSE_NORMALIZATION", [source], [out], options)


def lp_normalization(e: Emitter, node: ir.Node) -> None:
    """LpNormalization: a value over its norm, zero where that is zero."""
    x, p = e.placed(node, 0), node.attributes.get_int("p", 2)
    lie = x.order.index(node.attributes.get_int("axis", -1) % len(x.order))
    out = e.output(node, x.order)
    parts = e.temporary("parts", out.shape, out)
    if p == 1:
        e.op("ABS", [x.tensor], [parts], e.options("AbsOptions"))
    else:
        e.op("MUL", [x.tensor, x.tensor], [parts], e.options("MulOptions"))
    norm = e.temporary("norm", _kept(out, [lie]), out)
    reduce(e, "SUM", parts, [lie], norm)
    if p != 1:
        norm = _unary(e, "SQRT", norm)
    above_zero = e.temporary("above_zero", norm.shape, norm)
    least = e.constant("least", np.array(_TINY, np.float32))
    e.op("MAXIMUM", [norm, least], [above_zero], e.options("MaximumMinimumOptions"))
    e.op("DIV", [x.tensor, above_zero], [out], e.options("DivOptions"))


def _standardized(e: Emitter, x: Tensor, axes: list[int], epsilon: float) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A tensor with mean 0 and variance 1 over axes; and its mean and the inverse of its standard deviation."""
    mean, variance = (e.temporary(name, _kept(x, axes), x) for name in ("mean", "variance"))
    reduce(e, "MEAN", x, axes, mean)
    centred, squares = (e.temporary(name, x.shape, x) for name in ("centred", "squares"))
    e.op("SUB", [x, mean], [centred], e.options("SubOptions"))
    e.op("MUL", [centred, centred], [squares], e.options("MulOptions"))
    reduce(e, "MEAN", squares, axes, variance)
    raised = e.temporary("raised", variance.shape, x)
    e.op("ADD", [variance, e.constant("epsilon", np.array(epsilon, np.float32))], [raised], e.options("AddOptions"))
    inverse = _unary(e, "RSQRT", raised)
    normal = e.temporary("normal", x.shape, x)
    e.op("MUL", [centred, inverse], [normal], e.options("MulOptions"))
    return normal, (mean, inverse)


def _affine(e: Emitter, x: Tensor, operands: Sequence[Tensor | None], out: Tensor) -> None:
    """x * scale + bias, either of which may be missing, into `out`."""
    steps = [(op, t) for op, t in zip(("MUL", "ADD"), operands, strict=True) if t is not None]
    for i, (op, operand) in enumerate(steps):
        result = out if i == len(steps) - 1 else e.temporary("scaled", out.shape, out)
        e.op(op, [x, operand], [result], e.options(f"{op.capitalize()}Options"))
        x = result


def _operand(e: Emitter, node: ir.Node, index: int, order: Order, axis: int | None = None) -> Tensor | None:
    """A scale or bias over the axes of a value from one on, over its last ones without; so that it broadcasts."""
    if index >= len(node.inputs) or node.inputs[index] is None:
        return None
    array = _constant(e, node, index)
    return _along(e, array, order, len(order) - array.ndim if axis is None else axis)


def _along(e: Emitter, array: np.ndarray, order: Order, axis: int) -> Tensor:
    """An array over axes of a value from one on, in an order; the axes that it lacks have length 1."""
    wide = array.reshape((1,) * axis + array.shape + (1,) * (len(order) - axis - array.ndim))
    turned = wide.transpose(order).astype(np.float32)
    leading = next((i for i, n in enumerate(turned.shape) if n > 1), turned.ndim - 1)
    return e.constant("operand", turned.reshape(turned.shape[leading:]))


def _constant(e: Emitter, node: ir.Node, index: int) -> np.ndarray:
    array = e.array(node, index)
    assert array is not None
    return array


def _unary(e: Emitter, name: str, x: Tensor) -> Tensor:
    out = e.temporary(name.lower(), x.shape, x)
    e.op(name, [x], [out])
    return out


def _kept(x: Tensor, axes: list[int]) -> list[int]:
    """The shape of a tensor when axes are reduced to length 1."""
    return [1 if i in axes else n for i, n in enumerate(x.shape)]


OPS = {
    "LayerNormalization": Op(layer_normalization),
    "InstanceNormalization": Op(instance_normalization),
    "GroupNormalization": Op(group_normalization),
    "BatchNormalization": Op(batch_normalization),
    "LRN": Op(local_response),
    "LpNormalization": Op(lp_normalization),
}
