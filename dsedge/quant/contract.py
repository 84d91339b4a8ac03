"""A contract: what one runtime variant accepts in INT8 and what it runs fast, as data.

A backend states its contract as a table, one line an operator:

    OPERATORS = (
        weighted("Conv", weight=1, axis=0, bias=2),
        follows("Add Mul Sigmoid"),
        shares("MaxPool Reshape Transpose"),
        stays_float("Softmax", "its INT8 kernel is slower than the float one"),
    )

`annotate` reads the table and a graph, and makes the plan. Nothing outside of a backend's folder knows a runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import onnx_ir as ir

Kind = Literal["compute", "follow", "share", "fuse", "within", "dynamic", "float"]
"""How an operator takes part.

- compute: worth INT8 on its own account (convolutions, matrix products).
- follow: INT8 where it lies between INT8 operators; input and output have scales of their own.
- share: as follow, and its inputs and outputs share one scale, because it only moves or selects values.
- fuse: INT8 only where the runtime fuses it into the operator before it (`Contract.fusions`).
- within: float, inside of the kernel of the operator before it, which writes the result as codes where INT8 reads it.
- dynamic: INT8 weights; activations are quantized by the runtime as they come.
- float: never.
"""

Condition = Callable[["ir.Node"], str | None]
"""Looks at a node and returns the reason why it cannot be INT8, or None when it can."""


@dataclass(frozen=True)
class NumberFormat:
    """How numbers of one role are held.

    Attributes:
        dtype: "uint8", "int8" or "uint4".
        symmetric: whether the zero point is the middle of the range (0 for int8, 128 for uint8).
        bits: bits in use; 7 leaves headroom where a CPU's 16-bit accumulation saturates.
        block: how many numbers in a row share a scale, None where a channel or the whole tensor does.
    """

    dtype: Literal["uint8", "int8", "uint4"]
    symmetric: bool
    bits: int = 8
    block: int | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest integer. Symmetric int8 leaves out -128, so that negation is exact."""
        if self.dtype.startswith("u"):
            return 0, 2**self.bits - 1
        half = 2 ** (self.bits - 1)
        return (-(half - 1) if self.symmetric else -half), half - 1


@dataclass(frozen=True)
class OpRule:
    """What a contract says of one operator.

    Attributes:
        op: operator type.
        kind: see `Kind`.
        inputs: indices of the activation inputs that are quantized; None for all; a function of the node where the
            graph around it decides (the skip input of a residual Add, say).
        weights: indices of the constant inputs that become INT8.
        axis: per-channel axis of the weights; a function of the node where an attribute decides; None for per-tensor.
        bias: index of the bias, or None.
        output: whether the runtime needs the output quantized too.
        ends: whether a `follow` or `share` operator keeps INT8 with nothing INT8 behind it, because it makes the data
            smaller (what is converted back is little) or is that much faster on codes; a function of the node where
            the graph around it decides.
        fixed_output: scale and zero point that the runtime imposes on the output, or None.
        symmetric: indices of the activation inputs whose zero point the runtime wants in the middle of the codes.
        separate: looks at a `share` node and says why its inputs and outputs need scales of their own here.
        alone: looks at a `compute` node that no INT8 value reaches, and says why it is not worth to begin INT8 there.
        open_end: says whether the runtime writes the output of a `compute` node in float where only float operators
            read it, so that nothing is rounded there.
        when: conditions beyond the operator's type; the first reason given keeps the node in float.
        only: says whether the rule is about a node at all; of several rules for one operator the first that is counts.
        because: why the operator is as it is; printed by `dsedge explain`.
        domain: operator domain, "" for ONNX's own.
    """

    op: str
    kind: Kind
    inputs: tuple[int, ...] | Callable[[ir.Node], tuple[int, ...]] | None = None
    weights: tuple[int, ...] = ()
    axis: int | Callable[[ir.Node], int | None] | None = None
    bias: int | None = None
    output: bool = True
    ends: bool | Callable[[ir.Node], bool] = False
    fixed_output: tuple[float, int] | None = None
    symmetric: tuple[int, ...] = ()
    separate: Condition | None = None
    alone: Condition | None = None
    open_end: Callable[[ir.Node], bool] | None = None
    when: tuple[Condition, ...] = ()
    only: Callable[[ir.Node], bool] | None = None
    because: str = ""
    domain: str = ""

    def activation_inputs(self, node: ir.Node) -> list[int]:
        """Indices of this node's activation inputs that are quantized and present."""
        wanted = self.inputs(node) if callable(self.inputs) else self.inputs
        indices = range(len(node.inputs)) if wanted is None else wanted
        return [i for i in indices if i < len(node.inputs) and node.inputs[i] is not None]

    def ends_at(self, node: ir.Node) -> bool:
        """Whether this node keeps INT8 with nothing INT8 behind it."""
        return self.ends(node) if callable(self.ends) else self.ends

    def channel_axis(self, node: ir.Node) -> int | None:
        """The per-channel axis of this node's weights."""
        return self.axis(node) if callable(self.axis) else self.axis


def weighted(
    op: str,
    *,
    weight: int = 1,
    axis: int | Callable[[ir.Node], int | None] | None,
    bias: int | None = None,
    output: bool = True,
    alone: Condition | None = None,
    open_end: Callable[[ir.Node], bool] | None = None,
    when: tuple[Condition, ...] = (),
    because: str = "",
) -> tuple[OpRule, ...]:
    """An operator with one activation input and a constant weight."""
    return (
        OpRule(
            op,
            "compute",
            (0,),
            (weight,),
            axis,
            bias,
            output,
            alone=alone,
            open_end=open_end,
            when=when,
            because=because,
        ),
    )


def follows(
    ops: str,
    *,
    inputs: tuple[int, ...] | None = (0,),
    ends: bool | Callable[[ir.Node], bool] = False,
    when: tuple[Condition, ...] = (),
    because: str = "",
) -> tuple[OpRule, ...]:
    """Operators that are INT8 between INT8 operators, with scales of their own."""
    return tuple(OpRule(op, "follow", inputs, ends=ends, when=when, because=because) for op in ops.split())


def fixed(
    ops: str, *, scale: float, zero_point: int, when: tuple[Condition, ...] = (), because: str = ""
) -> tuple[OpRule, ...]:
    """As `follows`, where the runtime imposes scale and zero point of the output."""
    imposed = (scale, zero_point)
    return tuple(OpRule(op, "follow", (0,), fixed_output=imposed, when=when, because=because) for op in ops.split())


def fuses(ops: str, *, when: tuple[Condition, ...] = (), because: str = "") -> tuple[OpRule, ...]:
    """Activations that are INT8 only where they are fused into the operator before them."""
    return tuple(OpRule(op, "fuse", (0,), when=when, because=because) for op in ops.split())


def within(op: str, *, only: Callable[[ir.Node], bool], because: str) -> tuple[OpRule, ...]:
    """A float operator inside of the kernel before it: no Q/DQ comes between."""
    return (OpRule(op, "within", only=only, because=because),)


def shares(
    ops: str,
    *,
    inputs: tuple[int, ...] | None = (0,),
    ends: bool | Callable[[ir.Node], bool] = False,
    separate: Condition | None = None,
    when: tuple[Condition, ...] = (),
    because: str = "",
) -> tuple[OpRule, ...]:
    """Operators that move or select values: their inputs and outputs share one scale."""
    return tuple(
        OpRule(op, "share", inputs, ends=ends, separate=separate, when=when, because=because) for op in ops.split()
    )


def dynamic(
    op: str,
    *,
    weights: tuple[int, ...],
    axis: int | Callable[[ir.Node], int | None] | None,
    when: tuple[Condition, ...] = (),
    because: str,
) -> tuple[OpRule, ...]:
    """An operator whose weights become INT8 and whose activations the runtime quantizes as they come."""
    return (OpRule(op, "dynamic", (), weights, axis, output=False, when=when, because=because),)


def stores(
    op: str,
    *,
    weight: int,
    axis: int | Callable[[ir.Node], int],
    only: Callable[[ir.Node], bool],
    when: tuple[Condition, ...] = (),
    because: str,
) -> tuple[OpRule, ...]:
    """An operator that picks rows of a constant table: the table is INT8, and what is picked is float."""
    return (OpRule(op, "compute", (), (weight,), axis, output=False, only=only, when=when, because=because),)


def stays_float(
    ops: str,
    because: str,
    *,
    when: tuple[Condition, ...] = (),
    only: Callable[[ir.Node], bool] | None = None,
) -> tuple[OpRule, ...]:
    """Operators that stay float, with the reason, or with a better one that a condition gives for a node."""
    return tuple(OpRule(op, "float", when=when, only=only, because=because) for op in ops.split())


@dataclass(frozen=True)
class Contract:
    """What one variant of a runtime accepts, and what it runs fast.

    Attributes:
        runtime: name of the backend ("onnxruntime").
        variant: name of the variant ("x86-vnni").
        activation: format of activations.
        weight: format of weights.
        bias: "int32" (on the grid scale_x * scale_w) or "float".
        operators: the table; an operator that is not in it stays float.
        fusions: for each operator, the activations that the runtime fuses into it: no Q/DQ comes between.
        opset: least and greatest opset of the default domain that the runtime reads. A backend whose greatest is below
            the canonical one (`passes/upgrade_opset.py`) lowers the graph when it builds.
        otherwise: the reason given for operators that are not in the table.
        block: format of INT4 weights, None where the runtime has none.
        blocked: the operators that take INT4 weights: rules of the kind "dynamic", whose axis is that of the blocks.
        hybrid: the operators whose weights can be INT8 while the runtime quantizes activations as they come, for those
            who ask for that (`--precision int8_dynamic`): rules of the kind "dynamic".
        half: what the runtime does with weights that are stored as float16, "" where it cannot read them.
        computes_half: whether all that is float computes in float16 then, not weights alone being stored so.
        bfloat: what the runtime does when all that is float is to be computed in bfloat16, "" where it cannot.
        lacks: precision that `--precision` names -> why the runtime does not have it.
        static: whether the runtime wants the length of every axis before it runs.
        ranges: whether a range of lengths will do as well.
        inputs_only: whether Q/DQ goes on inputs alone, because any operator takes up the quantizer behind it.
        integer_io: whether inputs and outputs of an artifact can be codes (`dsedge.quant.interface`).
    """

    runtime: str
    variant: str
    activation: NumberFormat
    weight: NumberFormat
    bias: Literal["int32", "float"]
    operators: tuple[OpRule, ...]
    fusions: Mapping[str, tuple[str, ...]]
    opset: tuple[int, int]
    otherwise: str
    block: NumberFormat | None = None
    blocked: tuple[OpRule, ...] = ()
    hybrid: tuple[OpRule, ...] = ()
    half: str = ""
    computes_half: bool = False
    bfloat: str = ""
    lacks: Mapping[str, str] = field(default_factory=dict)
    static: bool = False
    ranges: bool = False
    inputs_only: bool = False
    integer_io: bool = False
    _by_op: dict[tuple[str, str], list[OpRule]] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        by_op: dict[tuple[str, str], list[OpRule]] = {}
        for rule in self.operators:
            by_op.setdefault((rule.domain, rule.op), []).append(rule)
        object.__setattr__(self, "_by_op", by_op)

    def rule(self, node: ir.Node) -> OpRule:
        """The rule for a node; a float rule with the contract's general reason when there is none."""
        rules = self._by_op.get((node.domain, node.op_type), [])
        found = next((rule for rule in rules if rule.only is None or rule.only(node)), None)
        return found or OpRule(node.op_type, "float", because=self.otherwise, domain=node.domain)

    @property
    def id(self) -> str:
        """Runtime and variant in one word, "onnxruntime/x86-vnni"."""
        return f"{self.runtime}/{self.variant}"
