"""Decide: which nodes of a graph are INT8, and which activations they take, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import (
    Activation,
    activation_of,
    equal,
    of_eight_bits,
    parameters,
    signed,
    too_steep,
    why_not_activation,
)
from dsedge.passes.edit import PRECISION
from dsedge.quant.plan import QParams

if TYPE_CHECKING:
    from dsedge.backends.litert.emitter import Emitter


@dataclass(frozen=True)
class Op:
    """How an operator is written.

    Attributes:
        emit: writes the node.
        codes: indices of the inputs that are codes where it is INT8; None for all, () where TFLite has no INT8 kernel.
            What it writes is codes too, unless it is integers or booleans.
        same: whether TFLite wants its inputs and outputs under one scale; what comes under another is requantized.
        fixed: scale and zero point that TFLite imposes on the output.
        fuses: whether it takes a Relu or Clip behind it as its activation.
        refuses: why there is no INT8 kernel for this node in particular, None where there is.
    """

    emit: Callable[[Emitter, ir.Node], None]
    codes: tuple[int, ...] | None = ()
    same: bool = False
    fixed: tuple[float, int] | None = None
    fuses: bool = False
    refuses: Callable[[ir.Node], str | None] | None = None


class Fused(NamedTuple):
    """A Relu or Clip that the operator before it takes."""

    node: ir.Node
    activation: Activation


def decide(graph: ir.Graph, ops: Mapping[str, Op]) -> tuple[set[ir.Node], dict[ir.Node, Fused]]:
    """Read a whole graph.

    Args:
        graph: float or Q/DQ.
        ops: by ONNX's names.

    Returns:
        The nodes that are INT8; and node -> what it takes.
    """
    int8: set[ir.Node] = set()
    taken: dict[ir.Node, Fused] = {}
    absorbed: set[ir.Node] = set()
    for node in graph:
        op = ops.get(node.op_type) if not node.domain else None
        if op is None or node in absorbed:
            continue
        fused = _fused(node, op)
        if fused is not None:
            taken[node] = fused
            absorbed.add(fused.node)
        if _has_codes(node, op, node.outputs if fused is None else fused.node.outputs):
            int8.add(node)
    return int8, taken


def _fused(node: ir.Node, op: Op) -> Fused | None:
    users = list(node.outputs[0].uses())
    if not op.fuses or len(users) != 1 or users[0].idx != 0 or node.outputs[0].is_graph_output():
        return None
    user = users[0].node
    params = written_as(user.outputs[0]) if _has_codes(node, op, user.outputs) else None
    activation = activation_of(user, params)
    return None if activation is None else Fused(user, activation)


def _has_codes(node: ir.Node, op: Op, outputs: Sequence[ir.Value]) -> bool:
    if op.codes == () or node.metadata_props.get(PRECISION) == "float" or (op.refuses and op.refuses(node)):
        return False
    indices = range(len(node.inputs)) if op.codes is None else op.codes
    read = [v for i in indices if i < len(node.inputs) and (v := node.inputs[i]) is not None]
    if not read or not all(map(of_eight_bits, read)):
        return False
    written = [out for out in outputs if out.dtype is None or out.dtype.is_floating_point()]
    for out in written:
        params = written_as(out)
        if params is None and out.uses():
            return False
        if params is not None and (too_steep(node, params) or not _gives(op, params)):
            return False
    return not written or any(written_as(out) is not None for out in written)


def written_as(value: ir.Value) -> QParams | None:
    """The parameters of the int8 codes that a value is turned into, None where it is wanted in float too."""
    users = [use.node for use in value.uses()]
    if value.is_graph_output() or not users or any(user.op_type != "QuantizeLinear" for user in users):
        return None
    found = [parameters(user) for user in users]
    first = found[0]
    if first is None or why_not_activation(first) or first.dtype == "int16":
        return None
    same = all(p is not None and p.dtype == first.dtype and equal(p, first) for p in found)
    return signed(np.zeros((), first.dtype), first)[1] if same else None


def _gives(op: Op, params: QParams) -> bool:
    return op.fixed in (None, (float(params.scale), int(params.zero_point)))
