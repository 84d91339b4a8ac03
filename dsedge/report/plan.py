"""The plan of a bundle, read back as `QuantPlan.to_json` wrote it."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from dsedge.bundle import Bundle
from dsedge.errors import BundleError, LoadError, close_names


class WeightScale(BaseModel):
    """How one weight is stored: per channel along `axis`, in blocks along it, or per tensor."""

    dtype: str
    axis: int | None
    channels: int
    least: float
    greatest: float
    block: int | None = None


class Node(BaseModel):
    """What happens to one operator; see `dsedge.quant.plan.NodePlan`. `lowered`: what it is in the artifact."""

    name: str
    op: str
    precision: str
    reason: str
    fused_into: str | None
    weights: list[int]
    weight_scales: list[WeightScale]
    output: bool
    reads: list[str]
    result: str
    lowered: str | None = None


class Value(BaseModel):
    """What happens to one activation; see `dsedge.quant.plan.ValuePlan`."""

    name: str
    group: str
    range: tuple[float, float] | None
    scale: float | None
    zero_point: int | None
    dtype: str | None


class Plan(BaseModel):
    """The plan for one graph under one contract."""

    contract: str
    nodes: list[Node]
    values: list[Value]


def read_plan(bundle: Bundle) -> Plan:
    """The plan of a bundle.

    Raises:
        BundleError: DS803 when the bundle has none, or it is damaged.
    """
    path = bundle.file("plan")
    try:
        return Plan.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError("DS803", "the file cannot be read", where=str(path), because=error.strerror) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "file"
        raise BundleError(
            "DS803",
            "the plan is damaged",
            where=str(path),
            because=f"{field}: {first['msg']}",
            hint="copy the bundle again, or compile again",
        ) from error


def find_node(plan: Plan, name: str) -> Node:
    """The operator of that name.

    Raises:
        LoadError: DS145 when there is none, with the names that are close.
    """
    by_name = {node.name: node for node in plan.nodes}
    if name in by_name:
        return by_name[name]
    close, listed = close_names(name, sorted(by_name)), "`dsedge explain BUNDLE` lists all"
    hint = f"did you mean {close}? {listed}" if close else listed
    raise LoadError("DS145", f"no operator is called {name!r}", hint=hint)


def fused(plan: Plan, node: Node) -> list[Node]:
    """The operators that are fused into this one."""
    return [other for other in plan.nodes if other.fused_into == node.name]


def quantized_values(plan: Plan, node: Node) -> list[tuple[str, Value]]:
    """The quantized activations at an operator: ("reads" or "writes", value), also through what is fused into it."""
    by_name = {value.name: value for value in plan.values}
    results = [n.result for n in (*fused(plan, node), node)] if node.output else []
    edges = [("reads", name) for name in node.reads] + [("writes", name) for name in results]
    return [(role, by_name[name]) for role, name in edges if name in by_name]


def tied(plan: Plan, value: Value) -> list[str]:
    """The other activations that share scale and zero point with this one by construction."""
    return [other.name for other in plan.values if other.group == value.group and other.name != value.name]
