"""Activations: with a kernel of their own, or as a few that XNNPACK runs in one piece with what is around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import bounds_of, encoded, equal, parameters
from dsedge.backends.litert.decide import written_as
from dsedge.backends.litert.emitter import Emitter, Op
from dsedge.backends.litert.flatbuffer import Tensor
from dsedge.backends.litert.ops.broadcast import broadcast, number, takes
from dsedge.backends.litert.ops.elementwise import NUMBERS, Emit, product, unary
from dsedge.quant.plan import QParams

_NAMED: Mapping[tuple[float | None, float | None], tuple[str, int]] = {
    (0.0, np.inf): ("RELU", 1),
    (-1.0, 1.0): ("RELU_N1_TO_1", 2),
    (0.0, 6.0): ("RELU6", 3),
}
"""Bounds -> the operator that clips to them, and the schema's ActivationFunctionType."""
_OPTIONS = {name: f"{name.title()}Options" for name in ("ADD", "SUB", "MUL", "DIV", "GELU", "ABS")}
_OPTIONS |= {"MAXIMUM": "MaximumMinimumOptions", "LEAKY_RELU": "LeakyReluOptions"}
_RELU6 = 3


def apply(e: Emitter, name: str, read: Sequence[Tensor | float], out: Tensor | None = None, **fields: Any) -> Tensor:
    """Write one operator of several that make up a node; numbers become constants, a missing `out` a temporary."""
    tensors = [e.constant("number", np.array(x, np.float32)) if isinstance(x, float) else x for x in read]
    like = next(x for x in read if isinstance(x, Tensor))
    target = out if out is not None else e.temporary(name.lower(), like.shape, like)
    e.op(name, tensors, [target], e.options(_OPTIONS[name], **fields) if name in _OPTIONS else None)
    return target


def relu(e: Emitter, node: ir.Node) -> None:
    """Relu that nothing before it takes as its activation."""
    _clip(e, node, np.array(0, np.float32), None)


def clip(e: Emitter, node: ir.Node) -> None:
    """Clip that nothing before it takes: RELU, RELU6, RELU_N1_TO_1, else MAXIMUM and MINIMUM."""
    if _computed(node) is None:
        given = (e.array(node, 1), -np.inf), (e.array(node, 2), np.inf)  # XNNPACK computes nonsense at infinite ones
        return _clip(e, node, *(None if end is None or end == nothing else end for end, nothing in given))
    takes(node, 0, "MAXIMUM", NUMBERS)
    x = e.placed(node, 0)
    ends = {i: e.tensor(node, i) for i in (1, 2) if i < len(node.inputs) and node.inputs[i] is not None}
    return _between(e, x.tensor, ends.get(1), ends.get(2), e.output(node, x.order))


def _clip(e: Emitter, node: ir.Node, low: np.ndarray | None, high: np.ndarray | None) -> None:
    name, activation = _NAMED.get(bounds_of(node), (None, 0))
    params = written_as(node.outputs[0]) if e.is_int8(node) else None
    if params is not None:
        return _clip_codes(e, node, params, low, high, activation)
    takes(node, 0, "MAXIMUM", NUMBERS)
    x = e.placed(node, 0)
    if low is None and high is None:
        return e.alias(node, x)
    out = e.output(node, x.order)
    if name is not None and out.dtype == "float32":
        return e.op(name, [x.tensor], [out])
    ends = [None if end is None else e.constant("end", end.astype(out.dtype)) for end in (low, high)]
    return _between(e, x.tensor, ends[0], ends[1], out)


def _clip_codes(
    e: Emitter, node: ir.Node, params: QParams, low: np.ndarray | None, high: np.ndarray | None, activation: int
) -> None:
    """Nothing where the codes end where it does; else a product with 1 that clips, as XNNPACK runs no RELU of codes."""
    x = e.placed(node, 0)
    least, greatest = (None if end is None else encoded(end, params) for end in (low, high))
    saturates = least in (None, -128) and greatest in (None, 127)
    assert x.tensor.qparams is not None
    if saturates and equal(x.tensor.qparams, params):
        return e.alias(node, x)
    if saturates or activation:
        return product(e, x.tensor, 1.0, e.output(node, x.order), activation)
    source = e.requantized(x.tensor, params)
    ends = [None if end is None else e.constant("end", end, params) for end in (least, greatest)]
    return _between(e, source, ends[0], ends[1], e.output(node, x.order))


def _between(e: Emitter, x: Tensor, low: Tensor | None, high: Tensor | None, out: Tensor) -> None:
    options = "MaximumMinimumOptions"
    if low is not None:
        target = out if high is None else e.temporary("raised", out.shape, out)
        e.op("MAXIMUM", [x, low], [target], e.options(options))
        x = target
    if high is not None:
        e.op("MINIMUM", [x, high], [out], e.options(options))


def _computed(node: ir.Node) -> str | None:
    return "its bounds are computed at run time" if bounds_of(node)[0] is None else None


def leaky(e: Emitter, node: ir.Node) -> None:
    """LeakyRelu."""
    _leaky(e, node, node.attributes.get_float("alpha", 0.01))


def prelu(e: Emitter, node: ir.Node) -> None:
    """PRelu: LEAKY_RELU where there is one slope, else PRELU."""
    slope = number(node, 1)
    if slope is not None:
        return _leaky(e, node, slope)
    if not e.is_int8(node):
        takes(node, 0, "PRELU", "float32")
    return broadcast(e, node, (0, 1), lambda read, out: e.op("PRELU", read, [out]))


def _leaky(e: Emitter, node: ir.Node, slope: float) -> None:
    unary("LEAKY_RELU", options="LeakyReluOptions", alpha=slope)(e, node)


def _one_scale(node: ir.Node) -> str | None:
    params = parameters(node.inputs[1].producer()) if node.inputs[1] is not None else None
    return None if params is None or params.axis is None else "PRELU takes slopes of one scale"


def elu(e: Emitter, node: ir.Node) -> None:
    """Elu, Selu, Celu: ELU, its negative side scaled by LEAKY_RELU, its input and output by products."""
    if not e.is_int8(node):
        takes(node, 0, "ELU", "float32")
    before, bend, after = 1.0, _alpha(node), 1.0
    if node.op_type == "Celu":
        before, bend, after = 1 / bend, 1.0, bend
    elif node.op_type == "Selu":
        after = node.attributes.get_float("gamma", 1.0507009873554805)
    x = e.placed(node, 0)
    out, source = e.output(node, x.order), x.tensor
    if before != 1.0:
        source = apply(e, "MUL", [source, before])
    source = apply(e, "ELU", [source], out if bend == after == 1.0 else None)
    if bend != 1.0:
        source = apply(e, "LEAKY_RELU", [source], out if after == 1.0 else None, alpha=bend)
    if after != 1.0:
        apply(e, "MUL", [source, after], out)


def _alpha(node: ir.Node) -> float:
    return node.attributes.get_float("alpha", 1.6732632423543772 if node.op_type == "Selu" else 1.0)


def _plain_elu(node: ir.Node) -> str | None:
    return None if _alpha(node) == 1.0 else "the INT8 kernel of ELU knows alpha 1 only"


def hard_sigmoid(e: Emitter, node: ir.Node) -> None:
    """HardSigmoid: relu6(6 alpha x + 6 beta) / 6."""
    takes(node, 0, "ADD", "float32")
    slope = 6 * node.attributes.get_float("alpha", 0.2)
    x = e.placed(node, 0)
    out, source = e.output(node, x.order), x.tensor
    if np.float32(slope) != 1:
        source = apply(e, "MUL", [source, slope])
    source = apply(e, "ADD", [source, 6 * node.attributes.get_float("beta", 0.5)], fusedActivationFunction=_RELU6)
    apply(e, "MUL", [source, 1 / 6], out)


def _hard_swish_scale(node: ir.Node) -> str | None:
    read = parameters(node.inputs[0].producer()) if node.inputs[0] is not None else None
    users = [parameters(use.node) for use in node.outputs[0].uses()]
    if read is None or not users or users[0] is None:
        return None
    fits = read.scale < 128 * users[0].scale
    return None if fits else "the INT8 kernel wants an output scale above 1/128 of the input's"


def composed(e: Emitter, node: ir.Node) -> None:
    """Softplus, Softsign, Mish, Swish and Erf, written so that no exponential overflows and nothing cancels."""
    takes(node, 0, "LOGISTIC", "float32")
    placed = e.placed(node, 0)
    x, out = placed.tensor, e.output(node, placed.order)
    match node.op_type:
        case "Softplus":  # max(x, 0) - log(sigmoid(|x|))
            log = apply(e, "LOG", [apply(e, "LOGISTIC", [apply(e, "ABS", [x])])])
            apply(e, "SUB", [apply(e, "RELU", [x]), log], out)
        case "Softsign":
            apply(e, "DIV", [x, apply(e, "ADD", [apply(e, "ABS", [x]), 1.0])], out)
        case "Mish":  # tanh(softplus(x)) is t / (2 - t), t = s (2 - s), s = sigmoid(x)
            s = apply(e, "LOGISTIC", [x])
            t = apply(e, "MUL", [s, apply(e, "SUB", [2.0, s])])
            apply(e, "MUL", [x, apply(e, "DIV", [t, apply(e, "SUB", [2.0, t])])], out)
        case "Swish":
            alpha = node.attributes.get_float("alpha", 1.0)
            apply(e, "MUL", [x, apply(e, "LOGISTIC", [x if alpha == 1.0 else apply(e, "MUL", [x, alpha])])], out)
        case _:  # Erf: 2 Phi(z) - 1, z = sqrt(2) x, Phi(z) = gelu(z) / z; a straight line where |z| < 1e-3
            z = apply(e, "MUL", [x, math.sqrt(2)])
            size = apply(e, "MAXIMUM", [apply(e, "ABS", [z]), 1e-3])
            phi = apply(e, "DIV", [apply(e, "GELU", [size]), size])
            erf = apply(e, "SUB", [apply(e, "MUL", [phi, 2.0]), 1.0])
            apply(e, "MUL", [erf, apply(e, "DIV", [z, size])], out)


def gelu(e: Emitter, node: ir.Node) -> None:
    """Gelu, exact or by tanh."""
    approximate = node.attributes.get_string("approximate", "none") == "tanh"
    unary("GELU", options="GeluOptions", approximate=approximate)(e, node)


def softmax(name: str, options: str, **fields: float) -> Emit:
    """Softmax or LogSoftmax over any axis: TFLite's is the last one of the order in which the input is held."""

    def emit(e: Emitter, node: ir.Node) -> None:
        if not e.is_int8(node):
            takes(node, 0, name, "float32")
        x = e.placed(node, 0)
        axis = node.attributes.get_int("axis", -1) % len(x.order)
        order = (*(a for a in x.order if a != axis), axis)
        e.op(name, [e.permuted(x, order)], [e.output(node, order)], e.options(options, **fields))

    return emit


OPS = {
    "Relu": Op(relu, codes=(0,)),
    "Clip": Op(clip, codes=(0,), refuses=_computed),
    "LeakyRelu": Op(leaky, codes=(0,)),
    "PRelu": Op(prelu, codes=(0, 1), refuses=_one_scale),
    "Elu": Op(elu, codes=(0,), refuses=_plain_elu),
    "Selu": Op(elu),
    "Celu": Op(elu, codes=(0,), refuses=_plain_elu),
    "Sigmoid": Op(unary("LOGISTIC"), codes=(0,), fixed=(1 / 256, -128)),
    "Tanh": Op(unary("TANH"), codes=(0,), fixed=(1 / 128, 0)),
    "HardSigmoid": Op(hard_sigmoid),
    "HardSwish": Op(unary("HARD_SWISH", options="HardSwishOptions"), codes=(0,), refuses=_hard_swish_scale),
    "Gelu": Op(gelu, codes=(0,)),
    **{name: Op(composed) for name in ("Softplus", "Softsign", "Mish", "Swish", "Erf")},
    "Softmax": Op(softmax("SOFTMAX", "SoftmaxOptions", beta=1.0), codes=(0,), fixed=(1 / 256, -128)),
    "LogSoftmax": Op(softmax("LOG_SOFTMAX", "LogSoftmaxOptions"), codes=(0,), fixed=(16 / 256, 127)),
}
