"""Reductions, and what else runs along axes: ArgMax, TopK, CumSum. Axes are renamed for the order that is held."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CannotEmit, Emitter, Op, Order, Placed
from dsedge.backends.litert.flatbuffer import Tensor

Step = Callable[[Emitter, Tensor], Tensor]
"""One operator of a reduction that takes several."""


def reducer(name: str, before: Step | None = None, after: str | None = None) -> Callable[[Emitter, ir.Node], None]:
    """A reduction, with an elementwise operator before it and one behind."""

    def emit(e: Emitter, node: ir.Node) -> None:
        x, axes, order = _reduced(e, node)
        if not axes and before is None and after is None:
            e.alias(node, x)
            return
        source = before(e, x.tensor) if before is not None else x.tensor
        out = e.output(node, order)
        if after is None:
            reduce(e, name, source, axes, out)
        else:
            between = e.temporary("reduced", out.shape, out)
            reduce(e, name, source, axes, between)
            e.op(after, [between], [out])

    return emit


def log_sum_exp(e: Emitter, node: ir.Node) -> None:
    """ReduceLogSumExp; the greatest value is taken out first, so that nothing overflows."""
    x, axes, order = _reduced(e, node)
    if not axes:
        e.alias(node, x)
        return
    out = e.output(node, order)
    kept = [1 if i in axes else n for i, n in enumerate(x.tensor.shape)]
    greatest = e.temporary("greatest", kept, x.tensor)
    reduce(e, "REDUCE_MAX", x.tensor, axes, greatest)
    less, powers = e.temporary("less", x.tensor.shape, out), e.temporary("powers", x.tensor.shape, out)
    e.op("SUB", [x.tensor, greatest], [less], e.options("SubOptions"))
    e.op("EXP", [less], [powers], e.options("ExpOptions"))
    total, logarithm = e.temporary("total", out.shape, out), e.temporary("logarithm", out.shape, out)
    reduce(e, "SUM", powers, axes, total)
    e.op("LOG", [total], [logarithm])
    if greatest.shape != out.shape:
        wide, greatest = greatest, e.temporary("greatest", out.shape, out)
        e.reshape(wide, greatest)
    e.op("ADD", [logarithm, greatest], [out], e.options("AddOptions"))


def reduce(e: Emitter, name: str, x: Tensor, axes: list[int], out: Tensor) -> None:
    """One reduction over axes of a tensor, which `out` keeps with length 1 where it has as many."""
    keep = len(out.shape) == len(x.shape)
    e.op(name, [x, e.constant("axes", np.array(axes, np.int32))], [out], e.options("ReducerOptions", keepDims=keep))


def extreme(name: str) -> Callable[[Emitter, ir.Node], None]:
    """ArgMax or ArgMin; the last of equal ones is the first of the reversed axis."""

    def emit(e: Emitter, node: ir.Node) -> None:
        x = e.placed(node, 0)
        axis = node.attributes.get_int("axis", 0) % len(x.order)
        lie = x.order.index(axis)
        keep = bool(node.attributes.get_int("keepdims", 1))
        out = e.output(node, x.order if keep else _without(x.order, {axis}))
        at = e.constant("axis", np.array([lie], np.int32))
        shape = [n for i, n in enumerate(x.tensor.shape) if i != lie]
        found = e.flatbuffer.activation(f"{node.name}_index", shape, "int64") if keep else out
        if node.attributes.get_int("select_last_index", 0):
            backwards = e.temporary("backwards", x.tensor.shape, x.tensor)
            e.op("REVERSE_V2", [x.tensor, at], [backwards], e.options("ReverseV2Options"))
            from_end, index = (
                e.flatbuffer.activation(f"{node.name}_{name}", shape, "int32") for name in ("end", "last")
            )
            arg(e, backwards, at, from_end)
            end = e.constant("end", np.array(x.tensor.shape[lie] - 1, np.int32))
            e.op("SUB", [end, from_end], [index], e.options("SubOptions"))
            e.cast(index, found)
        else:
            arg(e, x.tensor, at, found)
        if keep:
            e.reshape(found, out)

    def arg(e: Emitter, x: Tensor, at: Tensor, out: Tensor) -> None:
        kind = getattr(e.flatbuffer.schema.TensorType, out.dtype.upper())
        e.op(name, [x, at], [out], e.options(f"{name.title().replace('_', '')}Options", outputType=kind))

    return emit


def top_k(e: Emitter, node: ir.Node) -> None:
    """TopK: TOPK_V2 along the last axis; the least are the greatest of what is negated."""
    x = e.placed(node, 0)
    axis = node.attributes.get_int("axis", -1) % len(x.order)
    order = (*(a for a in x.order if a != axis), axis)
    source = e.permuted(x, order)
    count = e.array(node, 1)
    assert count is not None
    k = e.constant("k", np.array(int(count.reshape(-1)[0]), np.int32))
    values, indices = e.output(node, order, 0), e.output(node, order, 1)
    least = not node.attributes.get_int("largest", 1)
    if least and source.dtype != "float32":
        raise CannotEmit(
            f"the least of {source.dtype} values: TOPK_V2 finds the greatest, and NEG of them can overflow"
        )
    found = e.flatbuffer.activation(f"{node.name}_index", indices.shape, "int32")
    best = e.temporary("negated", values.shape, values) if least else values
    if least:
        negated = e.temporary("negative", source.shape, source)
        e.op("NEG", [source], [negated], e.options("NegOptions"))
        source = negated
    e.op("TOPK_V2", [source, k], [best, found], e.options("TopKV2Options"))
    if least:
        e.op("NEG", [best], [values], e.options("NegOptions"))
    e.cast(found, indices)


def cumulative_sum(e: Emitter, node: ir.Node) -> None:
    """CumSum: CUMSUM."""
    x, given = e.placed(node, 0), e.array(node, 1)
    assert given is not None
    lie = x.order.index(int(given.reshape(-1)[0]) % len(x.order))
    exclusive, reverse = (bool(node.attributes.get_int(name, 0)) for name in ("exclusive", "reverse"))
    options = e.options("CumsumOptions", exclusive=exclusive, reverse=reverse)
    e.op("CUMSUM", [x.tensor, e.constant("axis", np.array(lie, np.int32))], [e.output(node, x.order)], options)


def axes_of(e: Emitter, node: ir.Node) -> list[int]:
    """The ONNX axes of a reduction, from its attribute or its input; empty where it reduces nothing."""
    value = node.inputs[0]
    assert value is not None
    rank = len(e.shape(value))
    given = e.array(node, 1)
    axes = [int(a) for a in (node.attributes.get_ints("axes", ()) if given is None else given.reshape(-1))]
    if not axes and not node.attributes.get_int("noop_with_empty_axes", 0):
        return list(range(rank))
    return sorted({axis % rank for axis in axes})


def _reduced(e: Emitter, node: ir.Node) -> tuple[Placed, list[int], Order]:
    """What a reduction reads, the axes of the tensor that it reduces, and the order of its result."""
    x, axes = e.placed(node, 0), axes_of(e, node)
    order = x.order if node.attributes.get_int("keepdims", 1) else _without(x.order, set(axes))
    return x, sorted(x.order.index(axis) for axis in axes), order


def _without(order: Order, axes: set[int]) -> Order:
    """An order when some axes are gone."""
    left = [axis for axis in order if axis not in axes]
    return tuple(sorted(left).index(axis) for axis in left)


def _magnitude(e: Emitter, x: Tensor) -> Tensor:
    out = e.temporary("magnitude", x.shape, x)
    e.op("ABS", [x], [out], e.options("AbsOptions"))
    return out


def _square(e: Emitter, x: Tensor) -> Tensor:
    out = e.temporary("square", x.shape, x)
    e.op("MUL", [x, x], [out], e.options("MulOptions"))
    return out


def _in_float(node: ir.Node) -> str | None:
    """Why a reduction has no INT8 kernel."""
    given = node.inputs[1] if len(node.inputs) > 1 else None
    empty = given is None or (given.const_value is not None and given.const_value.size == 0)
    nothing = empty and not node.attributes.get_ints("axes", ())
    noop = node.attributes.get_int("noop_with_empty_axes", 0) != 0
    return "it reduces nothing" if nothing and noop else None


OPS = {
    "ReduceMean": Op(reducer("MEAN"), codes=(0,), refuses=_in_float),
    "ReduceSum": Op(reducer("SUM"), codes=(0,), refuses=_in_float),
    "ReduceMax": Op(reducer("REDUCE_MAX"), codes=(0,), same=True, refuses=_in_float),
    "ReduceMin": Op(reducer("REDUCE_MIN"), codes=(0,), same=True, refuses=_in_float),
    "ReduceProd": Op(reducer("REDUCE_PROD")),
    "ReduceL1": Op(reducer("SUM", _magnitude)),
    "ReduceL2": Op(reducer("SUM", _square, "SQRT")),
    "ReduceSumSquare": Op(reducer("SUM", _square)),
    "ReduceLogSum": Op(reducer("SUM", None, "LOG")),
    "ReduceLogSumExp": Op(log_sum_exp),
    "ArgMax": Op(extreme("ARG_MAX"), codes=(0,)),
    "ArgMin": Op(extreme("ARG_MIN"), codes=(0,)),
    "TopK": Op(top_k),
    "CumSum": Op(cumulative_sum),
}
