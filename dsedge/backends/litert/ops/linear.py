"""Matrix products: FULLY_CONNECTED with a constant weight [outputs, inputs], BATCH_MATMUL without."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import bias_too_great, constant_of, reads_real_numbers, signed
from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op, Placed
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.writer import input_of
from dsedge.quant.conditions import gemm_axis
from dsedge.quant.plan import QParams

_VIEWS = frozenset("Reshape Flatten Squeeze Unsqueeze".split())
Arrange = Callable[[np.ndarray], np.ndarray]

_MOST_AXES = 5
"""Of what BATCH_MATMUL multiplies."""


def gemm(e: Emitter, node: ir.Node) -> None:
    """Gemm: FULLY_CONNECTED, or BATCH_MATMUL where both factors are computed at run time; with MUL and ADD behind."""
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    turned = [bool(node.attributes.get_int(name, 0)) for name in ("transA", "transB")]
    out = e.output(node)
    constant, inside = constant_of(input_of(node, 1)) is not None, _bias_inside(node)
    behind = [] if inside else [("ADD", _times(e, e.tensor(node, 2), beta))]
    if not constant and (alpha != 1.0 or (inside and e.activation(node))):  # BATCH_MATMUL has no activation
        behind.insert(0, ("MUL", e.constant("alpha", np.array(alpha, np.float32))))
    product = e.temporary("product", out.shape, out) if behind else out
    if constant:
        x, arrange = _before(e, node, turned[0])
        weight = matrix_weight(e, node, lambda w: arrange(w if turned[1] else w.T), 0 if turned[1] else 1, alpha)
        if inside and (beta == 1.0 or e.is_int8(node)):
            bias = e.bias(node, 2, x, weight, out.shape[1])
        else:
            given = e.array(node, 2) if inside else None
            row = np.zeros(1) if given is None else beta * given.reshape(-1)
            bias = e.constant("bias", np.broadcast_to(row, out.shape[1:]).astype(np.float32))
        fully_connected(e, x, weight, bias, product, 0 if behind else e.activation(node))
    else:
        a, b = (_turned(e.placed(node, i)) if turned[i] else e.placed(node, i) for i in (0, 1))
        batch_matmul(e, a, b, product)
    for i, (op, operand) in enumerate(behind):
        last = i == len(behind) - 1
        result = out if last else e.temporary("scaled", out.shape, out)
        activation = e.activation(node) if last else 0
        e.op(
            op, [product, operand], [result], e.options(f"{op.capitalize()}Options", fusedActivationFunction=activation)
        )
        product = result


def matmul(e: Emitter, node: ir.Node) -> None:
    """MatMul: FULLY_CONNECTED with a constant matrix or vector behind, BATCH_MATMUL otherwise."""
    a, b = e.shape(input_of(node, 0)), e.shape(input_of(node, 1))
    out = e.output(node)
    batch = out.shape[: len(out.shape) - (len(a) > 1) - (len(b) > 1)]
    rows, columns = a[-2:-1] or (1,), b[-1] if len(b) > 1 else 1
    whole = (*batch, *rows, columns)
    product = out if whole == out.shape else e.temporary("product", whole, out)
    if len(b) <= 2 and constant_of(input_of(node, 1)) is not None:
        x = viewed(e, e.tensor(node, 0), (*batch, *rows, a[-1]))
        weight = matrix_weight(e, node, lambda w: w.reshape(len(w), -1).T, len(b) - 1)
        fully_connected(e, x, weight, e.bias(node, 2, x, weight, columns), product, 0)
    else:
        left, right = (
            e.placed(node, i) if len(shape) > 1 else Placed(viewed(e, e.tensor(node, i), matrix), (0, 1))
            for i, shape, matrix in ((0, a, (1, *a)), (1, b, (*b, 1)))
        )
        batch_matmul(e, left, right, product)
    if product is not out:
        e.reshape(product, out)


def fully_connected(e: Emitter, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, activation: int) -> None:
    """FULLY_CONNECTED on a matrix, or on the last axis of a value."""
    options = e.options(
        "FullyConnectedOptions",
        fusedActivationFunction=activation,
        keepNumDims=len(out.shape) > 2,
        asymmetricQuantizeInputs=x.dtype == "float32" and weight.dtype == "int8",
    )
    e.op("FULLY_CONNECTED", [x, weight, bias], [out], options)


def batch_matmul(e: Emitter, a: Placed, b: Placed, out: Tensor) -> None:
    """BATCH_MATMUL; a factor that lies with its last two axes exchanged is multiplied as it lies."""
    if max(len(a.order), len(b.order)) > _MOST_AXES:
        raise CannotEmit(f"a product of values of rank {len(out.shape)}, BATCH_MATMUL takes {_MOST_AXES} axes")
    (left, left_turned), (right, right_turned) = _as_it_lies(e, a), _as_it_lies(e, b)
    options = e.options("BatchMatMulOptions", adjX=left_turned, adjY=right_turned)
    e.op("BATCH_MATMUL", [left, right], [out], options)


def _as_it_lies(e: Emitter, factor: Placed) -> tuple[Tensor, bool]:
    """A factor behind its batch, and whether its last two axes are exchanged: the last one that is held stays last."""
    *batch, rows, columns = range(len(factor.order))
    turned = factor.order[-1] == rows
    return e.permuted(factor, (*batch, columns, rows) if turned else (*batch, rows, columns)), turned


def _before(e: Emitter, node: ir.Node, turned: bool) -> tuple[Tensor, Arrange]:
    """What a Gemm reads, and how its weight [outputs, inputs] is to be ordered for it.

    FULLY_CONNECTED reads any number of axes as a matrix. So what lies before a Reshape or Flatten is read itself, where
    some axes become the rows and the others the columns: the rows in ONNX's order, and the columns in whatever order
    they lie, channels last say. The weight's columns are ordered likewise.
    """
    rows, columns = e.shape(input_of(node, 0))
    if turned:
        return e.tensor(node, 0, (1, 0)), lambda w: w
    first, view = None, _writer(e, node)
    while view is not None and view.op_type in _VIEWS and not view.domain and e.is_int8(view) == e.is_int8(node):
        first, view = view, _writer(e, view)
    if first is not None:
        shape = e.shape(input_of(first, 0))
        splits = [i for i in range(len(shape) + 1) if (math.prod(shape[:i]), math.prod(shape[i:])) == (rows, columns)]
        if splits:
            placed = e.placed(first, 0)
            split = next((i for i in splits if placed.order[:i] == tuple(range(i))), splits[0])
            rest = [axis for axis in placed.order if axis >= split]
            x = e.permuted(placed, (*range(split), *rest))
            return x, partial(_columns, shape=shape[split:], order=[axis - split for axis in rest])
    return e.tensor(node, 0), lambda w: w


def _columns(weight: np.ndarray, shape: tuple[int, ...], order: list[int]) -> np.ndarray:
    """A weight [outputs, inputs] whose inputs are axes of a shape, for the same axes in another order."""
    return weight.reshape(-1, *shape).transpose(0, *(1 + axis for axis in order)).reshape(weight.shape)


def _writer(e: Emitter, node: ir.Node) -> ir.Node | None:
    """The node that writes the first input of a node; codes are seen through."""
    writer = input_of(node, 0).producer()
    for _ in range(2 if e.is_int8(node) else 0):
        writer = writer.inputs[0].producer() if writer is not None and writer.inputs[0] is not None else None
    return writer


def matrix_weight(e: Emitter, node: ir.Node, arrange: Arrange, axis: int, factor: float = 1.0) -> Tensor:
    """The constant second input of a node as the weight of a linear layer.

    Codes stay codes where the kernel takes them: under codes, and under real values that nothing says how to quantize.
    float16 is widened at run time.

    Args:
        e: the emitter.
        node: the product.
        arrange: makes it [outputs, inputs].
        axis: that of the outputs, before.
        factor: what it is multiplied by.
    """
    found = constant_of(input_of(node, 1))
    assert found is not None
    array, params = found
    name = input_of(node, 1).name or ""
    kept = e.is_int8(node) or reads_real_numbers(node)
    if params is not None and asymmetric(params, axis) is None and factor > 0 and kept:
        scale = (params.scale * np.float32(factor)).astype(np.float32)
        codes, params = signed(array, replace(params, scale=scale, axis=None if params.axis is None else 0))
        return e.constant(name, arrange(codes), params)
    if params is None and array.dtype == np.float16 and factor == 1.0:
        return e.widened(e.constant(name, arrange(array)), f"{name}_float32")
    real = e.array(node, 1)
    assert real is not None
    return e.constant(name, arrange(real * np.float32(factor)).astype(np.float32))


def _turned(placed: Placed) -> Placed:
    """A matrix, transposed."""
    return Placed(placed.tensor, (1 - placed.order[0], 1 - placed.order[1]))


def viewed(e: Emitter, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor in another shape."""
    if x.shape == shape:
        return x
    out = e.temporary("viewed", shape, x)
    e.reshape(x, out)
    return out


def _times(e: Emitter, x: Tensor, factor: float) -> Tensor:
    """A tensor times a number."""
    if factor == 1.0:
        return x
    out = e.temporary("weighed", x.shape, x)
    e.op("MUL", [x, e.constant("factor", np.array(factor, np.float32))], [out], e.options("MulOptions"))
    return out


def _bias_inside(node: ir.Node) -> bool:
    """Whether FULLY_CONNECTED adds the bias of a Gemm: a constant with one value a column, or one in all."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return True
    found = constant_of(bias)
    constant = constant_of(input_of(node, 1)) is not None
    return constant and found is not None and math.prod(found[0].shape[:-1]) == 1


def _gemm_in_float(node: ir.Node) -> str | None:
    """Why a Gemm has no INT8 kernel."""
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    found = constant_of(input_of(node, 1))
    if not _bias_inside(node):
        return "its bias is computed at run time or has a value for each row: it is added in float"
    if (alpha != 1.0 and found is None) or alpha <= 0.0 or (beta != 1.0 and len(node.inputs) > 2):
        return "the factors alpha and beta are applied in float"
    if found is None and any(user.op_type in ("Relu", "Clip") for user in node.outputs[0].consumers()):
        return "BATCH_MATMUL has no activation"
    if found is None or found[1] is None:
        return None
    return asymmetric(found[1], gemm_axis(node)) or bias_too_great(node, found[1].scale * np.float32(alpha))


def _matmul_in_float(node: ir.Node) -> str | None:
    """Why a MatMul has no INT8 kernel."""
    for index in (0, 1):
        found = constant_of(input_of(node, index))
        array, params = found or (None, None)
        if array is None or params is None:
            continue
        if index == 1 and array.ndim <= 2:
            return asymmetric(params, array.ndim - 1)
        if params.axis is not None:
            return "BATCH_MATMUL takes one scale for a whole value"
    return None


def asymmetric(params: QParams, axis: int) -> str | None:
    """Why codes cannot be the weight of a linear layer with its outputs along an axis; None where they can."""
    zero = {"int8": 0, "uint8": 128}.get(params.dtype)
    if zero is None or (params.zero_point != zero).any():
        return "the codes of its weight are not symmetric around zero"
    if params.axis not in (None, axis):
        return "its weight has scales along another axis than that of the outputs"
    return None


OPS = {
    "Gemm": Op(gemm, codes=(0, 1), fuses=True, refuses=_gemm_in_float),
    "MatMul": Op(matmul, codes=(0, 1), refuses=_matmul_in_float),
}
