"""Annotate: contract x graph -> plan.

Three readings of the graph, each short:

1. every node against its rule: may it be INT8, and if not, why (some are worth it only where INT8 reaches them);
2. operators that are INT8 only in company (`follow`, `share`) keep it where an INT8 value reaches them and something
   INT8 comes behind them, or where they make the data smaller (pools): elsewhere the conversions would cost more than
   the operator saves. So what lies behind the last convolution or matrix product (the decode tail of a detector, say)
   stays float by itself;
3. values between quantized nodes get a place in the plan, and values that must share a scale get one tie group.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import onnx_ir as ir

from dsedge.passes.edit import REPLACES
from dsedge.quant.contract import Contract, OpRule
from dsedge.quant.plan import NodePlan, QuantPlan, ValuePlan

_QUANTIZABLE = (ir.DataType.FLOAT,)


def annotate(
    graph: ir.Graph, contract: Contract, *, lifted: Mapping[str, str] | None = None, codes: Collection[str] = ()
) -> QuantPlan:
    """Decide for every node of a graph whether it is INT8 under a contract, and say why.

    Args:
        graph: normalized, sorted, every node named. Bodies of If, Loop and Scan are not entered: they stay float.
        contract: what the runtime accepts.
        lifted: node name -> reason, for nodes that must stay float whatever the contract says (an accuracy gate or the
            fusion audit lifted them).
        codes: inputs of the graph that will come as codes, so that INT8 reaches from there.

    Returns:
        The plan, without ranges.
    """
    rules = {node: contract.rule(node) for node in graph}
    refused = {node: refusal(node, rules[node], lifted or {}) for node in graph}
    heads = _fused(graph, contract, refused)
    fed = _fed(graph, rules, refused, heads, codes)
    leads = _leads(graph, rules, refused, heads)

    nodes: dict[str, NodePlan] = {}
    for node in graph:
        rule, head = rules[node], heads.get(node)
        plan = NodePlan(_name(node), node.op_type, "float", "", result=node.outputs[0].name or "")
        if _is_int8(head or node, rules, refused, fed, leads):
            if head is not None:
                plan = replace(plan, precision="int8", reason=f"fused into {head.name}", head=_name(head))
            else:
                inputs = tuple(rule.activation_inputs(node))
                plan = replace(
                    plan,
                    precision="int8_dynamic" if rule.kind == "dynamic" else "int8",
                    reason=rule.because,
                    inputs=inputs,
                    weights=tuple(i for i in rule.weights if _const(node, i)),
                    axis=rule.channel_axis(node),
                    bias=rule.bias if rule.bias is not None and _const(node, rule.bias) else None,
                    output=rule.output and not contract.inputs_only and not _ends_open(node, rule, leads, heads),
                    reads=tuple((v.name if (v := node.inputs[i]) is not None else None) or "" for i in inputs),
                )
        elif _on_integers(node):
            plan = replace(plan, precision="integer", reason="works on shapes, indices or booleans")
        else:
            plan = replace(plan, reason=refused[node] or _lonely(fed[node], leads[node]))
        if origin := node.metadata_props.get(REPLACES):
            plan = replace(plan, reason=f"{plan.reason}; in place of {origin}")
        nodes[plan.name] = plan
    return QuantPlan(contract.id, nodes, _values(graph, rules, nodes, heads))


def _name(node: ir.Node) -> str:
    return node.name or ""


def _const(node: ir.Node, index: int) -> bool:
    return index < len(node.inputs) and (v := node.inputs[index]) is not None and v.const_value is not None


def refusal(node: ir.Node, rule: OpRule, lifted: Mapping[str, str]) -> str | None:
    """Why this node cannot be INT8, or None."""
    if _name(node) in lifted:
        return lifted[_name(node)]
    if rule.kind in ("float", "within"):
        return next((reason for condition in rule.when if (reason := condition(node))), rule.because)
    for index in rule.weights:
        if not _const(node, index):
            return f"input {index}, its weight, is not a constant"
    for i in (*rule.activation_inputs(node), *rule.weights):
        value = node.inputs[i]
        if value is not None and value.dtype not in _QUANTIZABLE:
            return f"input {i} is {value.dtype.name if value.dtype is not None else 'of unknown type'}, not FLOAT"
    return next((reason for condition in rule.when if (reason := condition(node))), None)


def _fused(graph: ir.Graph, contract: Contract, refused: dict[ir.Node, str | None]) -> dict[ir.Node, ir.Node]:
    """Activation -> the node that the runtime fuses it into; those that are not fused may be refused for that."""
    heads: dict[ir.Node, ir.Node] = {}
    for node in graph:
        absorbed = contract.fusions.get(node.op_type, ()) if not node.domain else ()
        value = node.outputs[0]
        if not absorbed or refused[node] or value.is_graph_output():
            continue
        users = list(value.uses())
        if len(users) != 1 or users[0].idx != 0:
            continue
        user = users[0].node
        if user.op_type in absorbed and not user.domain and not refused.get(user, "in another graph"):
            heads[user] = node
    for node in graph:
        if contract.rule(node).kind == "fuse" and node not in heads and not refused[node]:
            refused[node] = "INT8 only behind an operator that it is fused into"
    return heads


def _written_int8(
    value: ir.Value | None,
    rules: Mapping[ir.Node, OpRule],
    refused: Mapping[ir.Node, str | None],
    heads: Mapping[ir.Node, ir.Node],
    fed: Mapping[ir.Node, bool],
    codes: Collection[str],
) -> bool:
    producer = value.producer() if value is not None else None
    if producer is None:
        return value is not None and value.name in codes
    producer = heads.get(producer, producer)
    rule = rules.get(producer)
    if rule is not None and rule.kind == "within":
        return fed[producer]
    if rule is None or refused[producer] or not rule.output:
        return False
    return rule.kind == "compute" or (rule.kind in ("follow", "share") and fed[producer])


def _fed(
    graph: ir.Graph,
    rules: Mapping[ir.Node, OpRule],
    refused: dict[ir.Node, str | None],
    heads: Mapping[ir.Node, ir.Node],
    codes: Collection[str],
) -> dict[ir.Node, bool]:
    """Whether an INT8 value reaches each node; where none does, a node may be refused for that."""
    fed: dict[ir.Node, bool] = {}
    for node in graph:
        rule = rules[node]
        computes = rule.kind not in ("float", "within")
        indices = rule.activation_inputs(node) if computes else range(len(node.inputs))
        fed[node] = any(_written_int8(node.inputs[i], rules, refused, heads, fed, codes) for i in indices)
        if rule.alone and not fed[node] and not refused[node]:
            refused[node] = rule.alone(node)
    return fed


def _leads(
    graph: ir.Graph,
    rules: Mapping[ir.Node, OpRule],
    refused: Mapping[ir.Node, str | None],
    heads: Mapping[ir.Node, ir.Node],
) -> dict[ir.Node, bool]:
    """Whether something that reads INT8 comes behind each node."""
    chained = {head: node for node, head in heads.items()}
    leads: dict[ir.Node, bool] = {}

    def reads_int8(user: ir.Node, index: int) -> bool:
        rule = rules.get(user)
        if rule is None or refused[user] or index not in rule.activation_inputs(user):
            return False
        return rule.kind == "compute" or (rule.kind in ("follow", "share") and leads[user])

    for node in reversed(graph):
        last = chained.get(node, node)
        leads[node] = rules[node].ends_at(node) or any(
            reads_int8(use.node, use.idx) for out in last.outputs for use in out.uses()
        )
    return leads


def _is_int8(
    node: ir.Node,
    rules: Mapping[ir.Node, OpRule],
    refused: Mapping[ir.Node, str | None],
    fed: Mapping[ir.Node, bool],
    leads: Mapping[ir.Node, bool],
) -> bool:
    if refused[node]:
        return False
    return rules[node].kind in ("compute", "dynamic") or (fed[node] and leads[node])


def _ends_open(node: ir.Node, rule: OpRule, leads: Mapping[ir.Node, bool], heads: Mapping[ir.Node, ir.Node]) -> bool:
    """Whether only float operators read a result that the runtime can write in float."""
    if rule.open_end is None or leads[node] or node in heads.values():
        return False
    return rule.open_end(node)


def _on_integers(node: ir.Node) -> bool:
    """Whether no output of a node is a floating-point tensor, as far as its types are known."""
    return all(out.dtype is not None and not out.dtype.is_floating_point() for out in node.outputs)


def _lonely(fed: bool, leads: bool) -> str:
    if not fed:
        return "no INT8 value reaches it, and converting its input would cost more than it saves"
    if not leads:
        return "nothing INT8 comes behind it: its result is wanted in float"
    return "the operator that it would be fused into stays float"


def _values(
    graph: ir.Graph,
    rules: Mapping[ir.Node, OpRule],
    nodes: Mapping[str, NodePlan],
    heads: Mapping[ir.Node, ir.Node],
) -> dict[str, ValuePlan]:
    """The values that are quantized, with their tie groups."""
    chained = {head: node for node, head in heads.items()}
    fixed: dict[str, tuple[float, int] | None] = {}
    symmetric: set[str] = set()
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def add(value: ir.Value | None, imposed: tuple[float, int] | None = None) -> str:
        name = (value.name if value is not None else None) or ""
        parent.setdefault(name, name)
        fixed.setdefault(name, imposed)
        return name

    def tie(inputs: Collection[str], outputs: Collection[str]) -> None:
        """One group; inputs on which the runtime imposes other parameters than on the rest stay apart."""
        imposed = {fixed[root(name)] for name in inputs}
        free = [name for name in inputs if len(imposed) == 1 or fixed[root(name)] is None]
        for name in [*free, *outputs]:
            target = root((*free, *outputs)[0])
            parent[root(name)] = target

    wanted = {name for plan in nodes.values() if plan.precision == "int8" for name in plan.reads}
    for node in graph:
        plan = nodes[_name(node)]
        if plan.precision != "int8" or plan.head is not None:
            continue
        read = [add(node.inputs[i]) for i in plan.inputs]
        symmetric |= {name for i, name in zip(plan.inputs, read, strict=True) if i in rules[node].symmetric}
        written: list[str] = []
        if plan.output:
            for out in chained.get(node, node).outputs:
                if out.dtype in _QUANTIZABLE and (out.uses() or out.is_graph_output()):
                    written.append(add(out, rules[node].fixed_output))
        else:
            written += [add(out) for out in node.outputs if out.name in wanted]
        separate = rules[node].separate
        if rules[node].kind == "share" and not (separate and separate(node)):
            tie(read, written)
    return {name: ValuePlan(name, root(name), fixed[root(name)], name in symmetric) for name in parent}
