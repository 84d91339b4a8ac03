"""Convolutions whose INT8 kernel is slower than the float one."""

from __future__ import annotations

import pytest
from flow import contract
from graphs import Net

from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate


@pytest.mark.parametrize(
    ("variant", "channels", "kernel", "stride", "precision"),
    [
        ("x86-vnni", 40, 5, 1, "float"),
        ("x86", 40, 5, 1, "float"),
        ("x86-vnni", 48, 5, 1, "int8"),
        ("x86-vnni", 40, 3, 1, "int8"),
        ("x86-vnni", 40, 5, 2, "int8"),
        ("arm-dotprod", 40, 5, 1, "int8"),
    ],
)
def test_the_rule(variant: str, channels: int, kernel: int, stride: int, precision: str) -> None:
    net = Net(x=("N", 8, 12, 12))
    y = net.conv(net.conv("x", channels), channels, kernel, group=channels, strides=[stride, stride])
    plan = annotate(normalize(net.model(net.conv(y, 8)))[0].graph.graph, contract(variant))
    assert plan.nodes["Conv_1"].precision == precision
    if precision == "float":
        assert "slow on 40 channels, no multiple of 16" in plan.nodes["Conv_1"].reason


def test_a_convolution_of_one_channel_is_not_depthwise() -> None:
    net = Net(x=("N", 8, 12, 12))
    y = net.conv(net.conv(net.conv("x", 1), 40, 7), 8)
    plan = annotate(normalize(net.model(y))[0].graph.graph, contract())
    assert plan.nodes["Conv_1"].precision == "int8"


@pytest.mark.parametrize(("channels", "precision"), [(3, "float"), (16, "int8")])
def test_a_volume_of_few_channels_stays_float(channels: int, precision: str) -> None:
    net = Net(x=("N", channels, 4, 6, 6))
    y = net.conv(net.conv("x", 16, rank=3), 16, rank=3)
    plan = annotate(normalize(net.model(y))[0].graph.graph, contract())
    assert (plan.nodes["Conv_0"].precision, plan.nodes["Conv_1"].precision) == (precision, "int8")
