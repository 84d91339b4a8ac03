"""DepthToSpace on codes, in the layout of the INT8 convolutions around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flow import contract, executed, quantized
from graphs import Net

from dsedge.backends import onnxruntime as backend
from dsedge.backends.onnxruntime.lower import lower
from dsedge.model import Model
from dsedge.session import open_session


def shuffle(channels: int, mode: str = "DCR", *, last: bool = False, height: int | str = 6) -> Model:
    net = Net(x=("N", 8, height, 5))
    y = net.op("DepthToSpace", net.conv("x", channels * 4), blocksize=2, mode=mode)
    net.channels[y] = channels
    return net.model(y if last else net.conv(y, 8))


@pytest.mark.parametrize("variant", ["x86-vnni", "arm-dotprod"])
@pytest.mark.parametrize(("last", "height"), [(False, 6), (True, 6), (False, "T")])
def test_the_same_codes_come_out(variant: str, last: bool, height: int | str) -> None:
    m = quantized(shuffle(4, last=last, height=height), contract(variant))
    lowered = lower(m.model)
    assert "DepthToSpace" not in {node.op_type for node in lowered.graph}
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 8, 5 if height == "T" else 6, 5)).astype(np.float32)}
    expected, got = (open_session(g, optimize=False, threads=1).run(None, feeds)[0] for g in (m.model, lowered))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("channels", "mode"), [(3, "DCR"), (4, "CRD")])
def test_what_would_not_gain_stays(channels: int, mode: str) -> None:
    m = quantized(shuffle(channels, mode))
    assert m.precision("DepthToSpace_1") == "int8"
    assert lower(m.model) is m.model


def test_nothing_is_transposed_between_convolutions(tmp_path: Path) -> None:
    m = quantized(shuffle(8))
    graph = executed(backend.build(m.model, tmp_path).main, tmp_path)
    perms = [list(node.attributes.get_ints("perm", [])) for node in graph if node.op_type == "Transpose"]
    assert [p for p in perms if len(p) == 5] == [[0, 1, 3, 2, 4]]
    assert len(perms) == 3, "besides that one, the input and the output"
