"""Where the Q/DQ pairs of two graphs of one model stand, and what sets them apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

Slot = tuple[str, int]
"""Name of the node that reads through a pair, and the index of its input. Both graphs keep the names of the model."""

Pairs = Mapping[Slot, str]
"""Slot -> the operator that reads."""


@dataclass(frozen=True)
class Difference:
    """Slots of one kind that only one of the graphs has.

    Attributes:
        ours: whether it is dsedge's graph that has them.
        kind: of the operators that read there.
        reason: why dsedge's placement is right.
        slots: in the order of the graph.
    """

    ours: bool
    kind: str
    reason: str
    slots: list[Slot]


def pairs(model: ir.Model) -> dict[Slot, str]:
    """Every slot of a Q/DQ graph that reads an activation through a pair."""
    return {(n.name or "", i): n.op_type for n in model.graph for i, v in enumerate(n.inputs) if _source(v) is not None}


def tensors(model: ir.Model) -> int:
    """How many activations have a quantizer."""
    sources = {_source(v) for n in model.graph for v in n.inputs}
    return len({value.name for value in sources if value is not None})


def without(model: ir.Model, slots: Collection[Slot]) -> ir.Model:
    """A copy of a Q/DQ graph that reads in float at some slots."""
    model = model.clone()
    for node in model.graph:
        for i, value in enumerate(node.inputs):
            if (node.name, i) in slots and (source := _source(value)) is not None:
                node.replace_input_with(i, source)
    return model


def differences(ours: Pairs, theirs: Pairs, because: Mapping[str, str]) -> list[Difference]:
    """The slots that only one of two graphs has, by kind.

    Args:
        ours: of dsedge's graph.
        theirs: of the other one.
        because: node -> what dsedge's plan says of it.
    """
    found: dict[tuple[bool, str, str], list[Slot]] = {}
    for own, (having, lacking) in ((True, (ours, theirs)), (False, (theirs, ours))):
        for slot in sorted(having.keys() - lacking.keys()):
            kind, reason = _kind(having[slot], own, _beside(slot, lacking), because.get(slot[0], ""))
            found.setdefault((own, kind, reason), []).append(slot)
    return [Difference(*key, slots) for key, slots in found.items()]


def _beside(slot: Slot, pairs: Iterable[Slot]) -> bool:
    """Whether another input of the same node is read through a pair."""
    return any(name == slot[0] for name, _ in pairs)


def _kind(op: str, ours: bool, beside: bool, because: str) -> tuple[str, str]:
    if not ours and op == "Add" and beside:
        reason = "the kernel that makes this term holds it in float and adds it there: a pair only rounds once more"
        return "second term of a residual sum", reason
    if not ours and op == "Add":
        return "sum without a convolution", "it rounds the residual stream, which all layers behind read"
    if not ours and op == "MatMul":
        return "product of attention", "it rounds scores and probabilities, which the float16 kernel keeps"
    if not ours and op == "MaxPool":
        reason = "the compiler moves the pair behind the pool over it, and its range is that of what is left there"
        return "pool of a value that is read once", reason
    if ours and op in ("Concat", "MaxPool"):
        return "pyramid of pools", "the pools are computed once, on codes of the scale that all that is joined has"
    return op, because


def _source(value: ir.Value | None) -> ir.Value | None:
    """The activation that a value is after a Q/DQ pair, None where it is something else."""
    for op in ("DequantizeLinear", "QuantizeLinear"):
        node = value.producer() if value is not None else None
        if node is None or node.op_type != op:
            return None
        value = node.inputs[0]
    return None if value is None or value.const_value is not None else value
