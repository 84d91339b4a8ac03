"""Measures which depthwise convolutions are slower in INT8: `_ragged` in backends/onnxruntime/contract.py.

    python tools/depthwise_threshold.py

Needs the core install and a machine with the instruction set of the target pos-x86. A model is a 1x1 convolution, the
depthwise one in question, and another 1x1 convolution, with Relu between them. dsedge quantizes it under that target's
contract, with the depthwise one in INT8 and in float between the other two. Both run in ONNX Runtime with one thread,
in turns. Printed are the median times and the median ratio.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx
from common import HOST, float_against_int8
from onnx import TensorProto, helper, numpy_helper

from dsedge.backends.base import load_backend
from dsedge.cli.output import show
from dsedge.quant.contract import Contract
from dsedge.report.terminal import table
from dsedge.target import load_target

SECONDS = 0.4
KERNELS, STRIDES, CHANNELS = (3, 5, 7), (1, 2), (32, 40, 56, 64, 88, 96, 120, 200, 208)
INPUTS, HEIGHT, WIDTH = 16, 14, 28


def write(path: Path, kernel: int, stride: int, channels: int) -> None:
    """The model, with seeded normal weights; the depthwise convolution is called "depthwise", its Relu "relu"."""
    rng = np.random.default_rng(0)
    shapes = {"w0": (channels, INPUTS, 1, 1), "w1": (channels, 1, kernel, kernel), "w2": (32, channels, 1, 1)}
    weights = [numpy_helper.from_array(rng.standard_normal(s, dtype=np.float32), name) for name, s in shapes.items()]
    window = {"pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": channels}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="before"),
        helper.make_node("Relu", ["a"], ["b"], name="relu_before"),
        helper.make_node("Conv", ["b", "w1"], ["c"], name="depthwise", **window),
        helper.make_node("Relu", ["c"], ["d"], name="relu"),
        helper.make_node("Conv", ["d", "w2"], ["y"], name="behind"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, INPUTS, HEIGHT, WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "depthwise", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def without_rule(contract: Contract) -> Contract:
    """The contract with every depthwise convolution in INT8."""
    return replace(contract, operators=tuple(replace(r, when=()) if r.op == "Conv" else r for r in contract.operators))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    contract = without_rule(load_backend("onnxruntime").contract(load_target(HOST)))
    cells = []
    for kernel, stride, channels in product(KERNELS, STRIDES, CHANNELS):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "depthwise.onnx"
            write(source, kernel, stride, channels)
            shape = (1, INPUTS, HEIGHT, WIDTH)
            times = float_against_int8(source, contract, shape, ("depthwise", "relu"), Path(folder), SECONDS)
        name = f"{kernel}x{kernel}/{stride}, {channels} channels"
        cells.append((name, *(f"{ms:.3f}" for ms in times[:2]), f"{times[2]:.2f}"))
    columns = ("depthwise convolution", "float ms#", "INT8 ms#", "INT8 / float#")
    show(table(columns, cells, title=f"Depthwise convolutions, contract {contract.id}, 1 thread"))


if __name__ == "__main__":
    main()
