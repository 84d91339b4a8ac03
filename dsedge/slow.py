"""Slow: the nodes that take longer in INT8 than they would in float, by the profiles of one runtime's two artifacts.

A runtime fuses other nodes in INT8 than it does in float. So nodes that either artifact computes in one operator are
compared together. A node that no operator names was taken up into the one that reads its result: it counts as part of
that. An operator that names no node brings numbers into another type or layout: it counts for the nodes around it.

A node in float between nodes in INT8 needs its inputs dequantized and its result quantized. So neighbours that are
slower are taken together, and only where they lose more than the conversions around all of them will take.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import onnx_ir as ir

from dsedge.backends.base import Cost
from dsedge.passes.edit import REPLACES
from dsedge.quant.plan import QuantPlan

CONVERSION_MS = 0.3e-6
"""About what it takes to quantize or dequantize one number on one core: it only sorts out what is hopeless,
because all that is lifted is timed."""
LEAST_SHARE = 0.01
"""Of the INT8 artifact's time: who loses less than that loses it in the noise of two profiles."""


def slower(graph: ir.Graph, plan: QuantPlan, eight: Sequence[Cost], floats: Sequence[Cost]) -> dict[str, str]:
    """The nodes planned in INT8 that are slower than in float by more than their return to float costs.

    Args:
        graph: the float graph that the plan is for, with shapes.
        plan: of the INT8 artifact.
        eight: its profile.
        floats: profile of the float artifact on the same runtime.

    Returns:
        Node -> reason, with the times of all nodes that it is compared with together, in milliseconds.
    """
    groups = _Groups(plan)
    for costs in (eight, floats):
        named = [groups.named(cost) for cost in costs]
        for names in named:
            groups.join(names)
        _take_up(graph, groups, set(chain.from_iterable(named)))
    int8 = {groups.of(node.name) for node in plan.nodes.values() if node.precision == "int8"}
    before, after = _times(groups, eight, int8, inside=True), _times(groups, floats, int8, inside=False)
    least = LEAST_SHARE * sum(cost.ms for cost in eight)
    values = list(_values(graph, groups))
    chosen: set[str] = set()
    for region in _regions({group for group in int8 if before[group] > after[group]}, values):
        loss = sum(before[group] - after[group] for group in region)
        if loss - CONVERSION_MS * _converted(region, int8, values) > least:
            chosen |= region
    return {
        name: f"slower in INT8 than in float: {before[group]:.3g} ms against {after[group]:.3g} ms"
        for name, node in plan.nodes.items()
        if node.precision == "int8" and node.head is None and (group := groups.of(name)) in chosen
    }


class _Groups:
    """Nodes that are compared together; each group goes by one of its nodes. What is fused goes by its head."""

    def __init__(self, plan: QuantPlan) -> None:
        heads = {name: node.head or name for name, node in plan.nodes.items()}
        self._known = {node.result: heads[name] for name, node in plan.nodes.items()} | heads
        self._parent: dict[str, str] = {}

    def of(self, name: str) -> str:
        name = self._known.get(name, name)
        while (parent := self._parent.get(name, name)) != name:
            name = parent
        return name

    def heads(self, nodes: Iterable[ir.Node]) -> list[str]:
        return [self._known.get(node.name or "", node.name or "") for node in nodes]

    def named(self, cost: Cost) -> list[str]:
        """The nodes that an operator names."""
        return list(dict.fromkeys(self._known[name] for name in cost.nodes if name in self._known))

    def join(self, names: Sequence[str]) -> None:
        for name in names[1:]:
            if (one := self.of(names[0])) != (other := self.of(name)):
                self._parent[other] = one


def _take_up(graph: ir.Graph, groups: _Groups, found: set[str]) -> None:
    """Join each node that no operator names to the one that was written in its place, or to the one that reads it."""
    for node in reversed(graph):
        (name,) = groups.heads([node])
        _, _, origin = node.metadata_props.get(REPLACES, "").partition(" ")
        readers = groups.heads(user for value in node.outputs for user in value.consumers())
        into = next((other for other in (origin, *readers) if other in found), None)
        if name not in found and into is not None:
            groups.join([into, name])
            found.add(name)


def _times(groups: _Groups, costs: Sequence[Cost], int8: set[str], *, inside: bool) -> Mapping[str, float]:
    """Group -> what its operators take in milliseconds, with its share of the conversions around it.

    Args:
        groups: by which times are added up.
        costs: a profile.
        int8: the groups that were planned in INT8.
        inside: count only conversions between two of these: others are the price of a border, which only moves.
    """
    times: dict[str, float] = defaultdict(float)
    owners = {cost.node: groups.of(names[0]) for cost in costs if (names := groups.named(cost))}
    reads = {cost.node: cost.reads for cost in costs}
    readers: dict[str, list[str]] = defaultdict(list)
    for cost in costs:
        for source in cost.reads:
            readers[source].append(cost.node)
    for cost in costs:
        above, below = _nearest(cost.node, reads, owners), _nearest(cost.node, readers, owners)
        if cost.node in owners:
            times[owners[cost.node]] += cost.ms
        elif not inside or (above and below and above | below <= int8):
            for group in above | below:
                times[group] += cost.ms / len(above | below)
    return times


def _nearest(node: str, links: Mapping[str, Sequence[str]], owners: Mapping[str, str]) -> set[str]:
    """The groups of the operators that links lead to, through conversions."""
    found, seen, open_nodes = set(), {node}, [*links.get(node, ())]
    while open_nodes:
        other = open_nodes.pop()
        if other in owners:
            found.add(owners[other])
        elif other not in seen:
            seen.add(other)
            open_nodes += links.get(other, ())
    return found


_Value = tuple[str, set[str], int]
"""The group that writes a value, "" outside; those that read it, "" outside; how many numbers it has."""


def _values(graph: ir.Graph, groups: _Groups) -> Iterator[_Value]:
    for value in chain(graph.inputs, *(node.outputs for node in graph)):
        producer = value.producer()
        readers = {groups.of(user.name or "") for user in value.consumers()}
        size = 1
        for length in value.shape or ():
            size *= length if isinstance(length, int) else 1
        yield (
            groups.of(producer.name or "") if producer else "",
            readers | ({""} if value.is_graph_output() else set()),
            size,
        )


def _regions(slow: set[str], values: Sequence[_Value]) -> list[set[str]]:
    """Slow groups by which of them are neighbours."""
    regions = [{group} for group in sorted(slow)]
    for writer, readers, _ in values:
        touched = [region for region in regions if region & (readers | {writer})] if writer in slow else []
        if len(touched) > 1:
            regions = [region for region in regions if region not in touched] + [set().union(*touched)]
    return regions


def _converted(region: set[str], int8: set[str], values: Sequence[_Value]) -> int:
    """How many numbers more are converted when a region is in float, less those that then are not."""
    count = 0
    for writer, readers, size in values:
        if writer in region and (outside := readers - region):
            count += size * (bool(outside & int8) - bool(outside - int8))
        elif writer not in region and readers & region:
            count += size * (1 if writer in int8 else -1)
    return count
