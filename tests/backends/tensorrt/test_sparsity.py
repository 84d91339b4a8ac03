"""2:4 sparsity is found where it is, in float weights and in codes, and asked for where the GPU has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flow import quantized
from graphs import Net

import dsedge
from dsedge.backends.tensorrt.contract import contract
from dsedge.backends.tensorrt.settings import read_settings
from dsedge.backends.tensorrt.sparsity import is_two_of_four, sparse_products
from dsedge.model import Model
from dsedge.target import load_target


def pruned() -> Model:
    """A convolution whose weights are 2:4 sparse over its input channels, and one whose are not."""
    net = Net(x=(1, 32, 8, 8))
    weights = np.random.default_rng(0).standard_normal((32, 32, 3, 3)).astype(np.float32)
    weights[:, ::4] = weights[:, 3::4] = 0
    y = net.op("Conv", "x", net.const(weights), pads=[1] * 4)
    net.channels[y] = 32
    return net.model(net.conv(net.op("Relu", y), 32))


def test_sparse_products_are_found_in_float_and_in_codes() -> None:
    m = quantized(pruned(), contract(load_target("a100")))
    assert sparse_products(m.graph) == (["Conv_0"], 2)
    assert sparse_products(m.model) == (["Conv_0"], 2)


@pytest.mark.parametrize(
    ("row", "sparse"),
    [([1, 0, 1, 0], True), ([1, 1, 1, 0], False), ([0, 0, 1, 1, 1, 1, 0, 0], True), ([1, 1, 0, 0, 1, 1], True)],
)
def test_two_of_every_four_are_zero(row: list[int], sparse: bool) -> None:
    assert is_two_of_four(np.array([row, [0] * len(row)]), 1) is sparse
    assert is_two_of_four(np.array([row, [0] * len(row)]).T, 0) is sparse


@pytest.mark.parametrize(("board", "asked"), [("a100", True), ("t4", False)])
def test_it_is_asked_for_where_the_gpu_skips_zeros(tmp_path: Path, board: str, asked: bool) -> None:
    dsedge.compile(pruned(), target=board, calibration="random", output=tmp_path / "b")
    assert read_settings(tmp_path / "b").sparsity is asked
