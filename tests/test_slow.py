"""Which nodes are slower in INT8, from profiles whose numbers are given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flow import quantized
from graphs import Net

from dsedge.backends.base import Cost
from dsedge.model import Model
from dsedge.slow import slower

SIZE = 8 * 16 * 16


def shuffled() -> Model:
    """Two convolutions and a channel shuffle between them."""
    net = Net(x=(1, 8, 16, 16))
    y = net.conv("x", 8, act="Relu")  # Conv_0, Relu_1
    y = net.op("Reshape", y, net.ints(1, 2, 4, 16, 16))  # Reshape_2
    y = net.op("Transpose", y, perm=[0, 2, 1, 3, 4])  # Transpose_3
    y = net.op("Reshape", y, net.ints(1, 8, 16, 16))  # Reshape_4
    net.channels[y] = 8
    return net.model(net.conv(y, 8))  # Conv_5


def residual() -> Model:
    net = Net(x=(1, 8, 16, 16))
    y = net.conv("x", 8, act="Relu")  # Conv_0, Relu_1
    total = net.op("Add", net.conv(y, 8), y)  # Conv_2, Add_3
    return net.model(net.conv(total, 8))  # Conv_4


def ran(*operators: tuple[float, str, str], **milliseconds: float) -> list[Cost]:
    """Costs in a row, each reading the one before: (milliseconds, operator, names of its nodes)."""
    costs: list[Cost] = []
    for ms, node, names in operators:
        costs.append(Cost(node, "", ms, tuple(names.split()), (costs[-1].node,) if costs else ()))
    return [replace(cost, ms=milliseconds.get(cost.node, cost.ms)) for cost in costs]


def of_shuffle(**milliseconds: float) -> list[Cost]:
    return ran(
        (0.0, "quantize", "x_QuantizeLinear"),
        (1.0, "first", "Conv_0"),
        (0.0, "into", ""),
        (0.0, "cut", "Reshape_2"),
        (0.1, "shuffle", "transpose_3 other"),
        (0.0, "join", "Reshape_4"),
        (1.0, "last", "Conv_5"),
        **milliseconds,
    )


def found(model: Model, eight: list[Cost], floats: list[Cost]) -> dict[str, str]:
    made = quantized(model)
    return slower(made.graph.graph, made.plan, eight, floats)


def test_the_slow_node_is_named_with_its_times() -> None:
    slow = found(shuffled(), of_shuffle(shuffle=0.5), of_shuffle(first=2.0))
    assert slow == {"Transpose_3": "slower in INT8 than in float: 0.5 ms against 0.1 ms"}


CONVERSION = SIZE * 0.3e-6
SHORT = {"first": 1e-3, "shuffle": 1e-3, "last": 1e-3}
"""Times beside which conversions count."""


@pytest.mark.parametrize("conversions, names", [(1.9, []), (2.1, ["Transpose_3"])])
def test_who_loses_less_than_two_conversions_take_stays(conversions: float, names: list[str]) -> None:
    """One of what it reads, and one of what it writes."""
    eight = of_shuffle(**SHORT | {"shuffle": 1e-3 + conversions * CONVERSION})
    assert list(found(shuffled(), eight, of_shuffle(**SHORT))) == names


def test_what_is_lost_in_noise_stays() -> None:
    assert not found(shuffled(), of_shuffle(shuffle=0.11), of_shuffle())


def test_neighbours_share_the_conversions_around_them() -> None:
    """Neither of the two would gain by itself."""
    slow = 1e-3 + 1.5 * CONVERSION
    assert not found(shuffled(), of_shuffle(**SHORT | {"shuffle": slow}), of_shuffle(**SHORT))
    both = found(shuffled(), of_shuffle(**SHORT | {"shuffle": slow, "join": slow}), of_shuffle(**SHORT))
    assert list(both) == ["Transpose_3", "Reshape_4"]


def test_conversions_between_nodes_in_int8_are_theirs_and_those_at_the_border_are_not() -> None:
    assert not found(shuffled(), of_shuffle(quantize=2.0), of_shuffle())
    slow = found(shuffled(), of_shuffle(into=0.4), of_shuffle())
    assert list(slow) == ["Conv_0", "Reshape_2"]
    assert slow["Reshape_2"] == "slower in INT8 than in float: 0.2 ms against 0 ms"


def test_the_order_of_a_profile_means_nothing() -> None:
    """Profiles come sorted by time; between the two conversions here there is another one."""
    eight = [*of_shuffle(into=0.2), Cost("layout", "", 0.2, (), ("first",))]
    eight = [replace(cost, reads=("layout",)) if cost.node == "into" else cost for cost in eight]
    slow = found(shuffled(), eight, of_shuffle())
    assert list(slow) == ["Conv_0", "Reshape_2"] and found(shuffled(), eight[::-1], of_shuffle()[::-1]) == slow


def test_what_float_computes_in_one_operator_is_compared_together() -> None:
    """The sum costs nothing in float, because the convolution before it holds it."""
    eight = ran((1.0, "a", "Conv_0"), (0.5, "b", "Conv_2"), (0.2, "sum", "Add_3"), (1.0, "c", "Conv_4"))
    held = ran((1.0, "a", "relu_1"), (1.0, "b", "conv_2 Add_3"), (1.0, "c", "conv_4"))
    assert not found(residual(), eight, held)
    slow = found(residual(), ran(*((c.ms + 0.4, c.node, " ".join(c.nodes)) for c in eight)), held)
    assert slow["Conv_2"] == slow["Add_3"] == "slower in INT8 than in float: 1.5 ms against 1 ms"


@pytest.mark.parametrize("float_ms, names", [(0.6, []), (0.1, ["Reshape_2", "Transpose_3", "Reshape_4"])])
def test_a_node_that_no_operator_names_is_part_of_the_one_that_reads_it(float_ms: float, names: list[str]) -> None:
    """As OpenVINO makes one operator of the three, which has the last one's name."""
    floats = ran((1.0, "first", "Conv_0"), (float_ms, "shuffle", "Reshape_4"), (1.0, "last", "Conv_5"))
    assert list(found(shuffled(), of_shuffle(shuffle=0.5), floats)) == names


def test_a_runtime_that_tells_nothing_is_suspected_of_nothing() -> None:
    assert not found(shuffled(), [], [])
