"""The request: which precision the user wants, for the whole model and for parts of it.

`--precision int8,head=fp32,*/attention/*=fp32,MatMul=int4` reads: INT8, but what is called `head` and all below
`attention` in float32, and the linear layers in INT4 blocks.

Precisions are fp32, fp16, bf16, int8, int8_dynamic (INT8 weights; the runtime quantizes activations as they come, so no
calibration data is needed) and int4. bf16 is for a whole model only: it is how a runtime computes all that is float.

The first entry is the base, "int8" when it is left out; it says what happens wherever nothing else is asked for. The
others are `name=precision`, and of several that fit a node the last one decides. A name is one of:

- an operator type, exactly as ONNX writes it. MatMul and Gemm mean the same here, because a normalizing pass writes
  one as the other;
- with a wildcard (* ? [), a pattern over whole names;
- a whole name, or parts of it between "/" and ".": `head` fits "/head/fc/MatMul" and "head.weight", and `body.0` fits
  "body.0.weight" and "/body/body.0/Conv".

Names are those of a node, of the values that it writes, and of the constants that it reads: exporters that number their
nodes keep the module's name in those of its weights.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, get_args

import numpy as np
import onnx_ir as ir

from dsedge.errors import LoadError, did_you_mean
from dsedge.passes.edit import REPLACES
from dsedge.quant.annotate import annotate, refusal
from dsedge.quant.contract import Contract, OpRule
from dsedge.quant.plan import Precision, QuantPlan

Asked = Literal["fp32", "fp16", "bf16", "int8", "int8_dynamic", "int4", "fp8"]
PRECISIONS: tuple[Asked, ...] = get_args(Asked)

ASKED_FLOAT32 = "asked for by --precision"
"""How the reason begins for which a node is float32 by request."""
_LEAST_HALF = 256
"""Numbers in a constant that is worth a Cast of its own."""
_LINEAR = {"MatMul", "Gemm"}


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        base: wherever no other entry fits.
        entries: (name, precision) in the order given.
    """

    base: Asked = "int8"
    entries: tuple[tuple[str, Asked], ...] = ()

    def __str__(self) -> str:
        return ",".join([self.base, *(f"{name}={precision}" for name, precision in self.entries)])

    @property
    def calibrates(self) -> bool:
        """Whether INT8 is asked for anywhere: nothing else needs calibration data."""
        return "int8" in (self.base, *(precision for _, precision in self.entries))

    def of(self, node: ir.Node) -> list[tuple[Asked, str]]:
        """What is asked of a node, and the entry that says so; then the base, for what the node cannot be."""
        fitting = [(precision, f"{name}={precision}") for name, precision in self.entries if _fits(name, node)]
        return [*fitting[-1:], (self.base, self.base)]


INT8 = Request()
"""What is meant when nothing is asked for."""


def parse_request(text: str) -> Request:
    """Read a request.

    Raises:
        LoadError: DS145 when it is not of the form `precision,name=precision,...`.
    """
    base: Asked = "int8"
    entries: list[tuple[str, Asked]] = []
    for i, entry in enumerate(text.split(",")):
        name, equals, precision = (part.strip() for part in entry.rpartition("="))
        if precision not in PRECISIONS:
            hint = did_you_mean(precision, PRECISIONS)
            raise LoadError("DS145", f"{precision!r} is no precision", where=f"--precision {text}", hint=hint)
        if equals and name:
            entries.append((name, precision))
        elif i == 0 and not equals:
            base = precision
        else:
            hint = "write int8,head=fp32: a precision for the whole model first, then name=precision"
            raise LoadError("DS145", f"{entry!r} names no operator", where=f"--precision {text}", hint=hint)
    return Request(base, tuple(entries))


def require_available(request: Request, contract: Contract) -> None:
    """Refuse a precision that the runtime does not have.

    Raises:
        LoadError: DS146, with the reason and what there is; also for bfloat16 that is asked for in parts.
    """
    lacks = {
        **({} if contract.block else {"int4": "it takes no weights in INT4 blocks"}),
        **({} if contract.half else {"fp16": "it reads no float16 weights"}),
        **({} if contract.hybrid else {"int8_dynamic": "it has no operators that quantize activations as they come"}),
        **({} if contract.bfloat else {"bf16": "it computes nothing in bfloat16"}),
        "fp8": "it computes nothing in FP8",
        **contract.lacks,
    }
    for precision in (request.base, *(precision for _, precision in request.entries)):
        if precision in lacks:
            has = ", ".join(p for p in PRECISIONS if p not in lacks)
            what = f"{contract.id} has no {precision}"
            raise LoadError("DS146", what, because=lacks[precision], hint=f"it has {has}")
        if precision == "bf16" and request.entries:
            because = "it computes all that is float in bfloat16, or nothing"
            raise LoadError("DS146", f"{contract.id} has no bf16 for parts of a model", because=because)


def require_matches(request: Request, graph: ir.Graph, contract: Contract, *, codes: Collection[str] = ()) -> None:
    """Refuse entries that name nothing, and those of which nothing can be as it is asked.

    Args:
        request: what was asked for.
        graph: normalized, and where INT8 is asked for prepared by the backend; every node named.
        contract: what the runtime accepts.
        codes: inputs of the graph that will come as codes.

    Raises:
        LoadError: DS145 an entry fits no node, DS146 no node that it fits can have the precision.
    """
    eight = annotate(graph, contract, codes=codes)
    for name, precision in request.entries:
        nodes = [node for node in graph if _fits(name, node)]
        if not nodes:
            known = {word for node in graph for word in (node.op_type, *_names(node), *_parts(node))}
            close = [repr(word) for word in difflib.get_close_matches(name, known, n=3, cutoff=0.6)]
            hint = f"did you mean {' or '.join(close)}?" if close else "`dsedge inspect MODEL` lists the operators"
            raise LoadError("DS145", f"--precision {name}={precision} fits no operator of the model", hint=hint)
        if precision == "int8":
            plans = [eight.nodes[node.name or ""] for node in nodes]
            reasons = [plan.reason if plan.precision in ("float", "integer") else None for plan in plans]
        elif precision in _STORED:
            reasons = [r if isinstance(r := _STORED[precision](node, contract), str) else None for node in nodes]
        else:
            continue
        if all(reasons):
            what = f"nothing that --precision {name}={precision} fits can be {precision}"
            raise LoadError("DS146", what, where=nodes[0].name, because=reasons[0])


def annotate_as_asked(
    graph: ir.Graph,
    contract: Contract,
    request: Request,
    *,
    lifted: Mapping[str, str] | None = None,
    codes: Collection[str] = (),
) -> QuantPlan:
    """`annotate`, with a request: nodes are lifted to float, stored as INT8, INT4 or float16, or made bfloat16.

    Args:
        graph: normalized, sorted, every node named.
        contract: what the runtime accepts.
        request: what was asked for. A node that cannot have what is asked of it is as the base has it.
        lifted: node name -> reason, for nodes that must be float whatever was asked.
        codes: inputs of the graph that will come as codes.

    Returns:
        The plan, without ranges.
    """
    floats = dict(lifted or {})
    stored: dict[str, _Stored] = {}
    for node in graph:
        name = node.name or ""
        found = None if name in floats else _decided(node, contract, request)
        if isinstance(found, _Stored):
            stored[name] = found
        if found is not None:
            floats[name] = found if isinstance(found, str) else found.reason
    plan = annotate(graph, contract, lifted=floats, codes=codes)
    nodes = {name: replace(plan.nodes[name], **fields._asdict()) for name, fields in stored.items()}
    return replace(plan, nodes=plan.nodes | nodes)


class _Stored(NamedTuple):
    """What a node's plan becomes when its weights are stored in another precision, or it computes in bfloat16."""

    precision: Precision
    reason: str
    weights: tuple[int, ...]
    axis: int | None


def _decided(node: ir.Node, contract: Contract, request: Request) -> _Stored | str | None:
    """How the weights of a node are stored, or why it is float; None where the contract decides about INT8."""
    reason = ""
    for precision, entry in request.of(node):
        if precision == "int8":
            return None
        if precision not in _STORED:
            return f"{ASKED_FLOAT32} {entry}"
        found = _STORED[precision](node, contract)
        if isinstance(found, _Stored):
            return found
        reason = reason or found
    return reason


def _int4(node: ir.Node, contract: Contract) -> _Stored | str:
    return _by_rule(node, contract.blocked, "int4", "INT4 weights")


def _int8_dynamic(node: ir.Node, contract: Contract) -> _Stored | str:
    return _by_rule(node, contract.hybrid, "int8_dynamic", "INT8 weights under float activations")


def _by_rule(node: ir.Node, rules: tuple[OpRule, ...], precision: Precision, what: str) -> _Stored | str:
    """What the rule for a node says of its weights; why it stays float when there is none, or it refuses the node."""
    rule = next((rule for rule in rules if (rule.op, rule.domain) == (node.op_type, node.domain)), None)
    if rule is None:
        return f"{what} are for {', '.join(rule.op for rule in rules)}: the rest is float"
    return refusal(node, rule, {}) or _Stored(precision, rule.because, rule.weights, rule.channel_axis(node))


def _fp16(node: ir.Node, contract: Contract) -> _Stored | str:
    constants = [(i, v.const_value) for i, v in enumerate(node.inputs) if v is not None and v.const_value is not None]
    large = [(i, t.numpy()) for i, t in constants if t.dtype == ir.DataType.FLOAT and t.size >= _LEAST_HALF]
    weights = tuple(i for i, array in large if np.abs(array).max() <= np.finfo(np.float16).max)
    if large and not weights:
        return "its weights exceed the range of float16"
    if weights or (contract.computes_half and any(out.dtype == ir.DataType.FLOAT for out in node.outputs)):
        return _Stored("fp16", contract.half, weights, None)
    computed = "it computes nothing in float"
    return computed if contract.computes_half else "it has no weights worth storing as float16: it computes in float32"


def _bf16(node: ir.Node, contract: Contract) -> _Stored | str:
    floats = any(out.dtype == ir.DataType.FLOAT for out in node.outputs)
    return _Stored("bf16", contract.bfloat, (), None) if floats else "it computes nothing in float"


_STORED = {"int4": _int4, "int8_dynamic": _int8_dynamic, "fp16": _fp16, "bf16": _bf16}


def _fits(name: str, node: ir.Node) -> bool:
    if name in (node.op_type, _origin(node)[0]) or {name, node.op_type} == _LINEAR:
        return True
    if any(c in name for c in "*?["):
        return any(fnmatchcase(own, name) for own in _names(node))
    return any(f"/{name}/".replace(".", "/") in f"/{own}/".replace(".", "/") for own in _names(node))


def _names(node: ir.Node) -> list[str]:
    constants = [v for v in node.inputs if v is not None and v.const_value is not None]
    return [name for name in (node.name, _origin(node)[1], *(v.name for v in (*node.outputs, *constants))) if name]


def _origin(node: ir.Node) -> tuple[str, str]:
    """Type and name of the node that this one was written for, "" where it is the file's own."""
    op, _, name = node.metadata_props.get(REPLACES, "").partition(" ")
    return op, name


def _parts(node: ir.Node) -> set[str]:
    return {part for name in _names(node) for part in re.split(r"[/.]", name) if part}
