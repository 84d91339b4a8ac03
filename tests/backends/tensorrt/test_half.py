"""float16 beside float32: what it loses is seen in outputs of any type."""

from __future__ import annotations

import numpy as np
import pytest
from flow import samples
from graphs import image

from dsedge.backends.tensorrt.half import in_half
from dsedge.model import Model
from dsedge.passes.normalize import normalize


def classes(beside: float) -> Model:
    """The greatest of 16 channels, after a number was added to all."""
    net = image()
    y = net.op("Add", net.conv("x", 16), net.const(np.float32(beside)))
    y = net.op("ArgMax", y, axis=1)
    return net.model(y, types={y: 7})


@pytest.mark.parametrize(("beside", "good"), [(0.0, True), (20000.0, False)])
def test_integer_outputs_decide_where_there_are_no_others(beside: float, good: bool) -> None:
    source = classes(beside)
    graph = normalize(source)[0].graph
    half = in_half(graph, graph, samples(source, 4), {})
    assert half.good is good
    assert good or "% equal in outputs that are no floats" in half.said
