"""Measures which 3-D convolutions are slower in INT8: `_thin_volume` in backends/onnxruntime/contract.py.

    python tools/volume_threshold.py

Needs the core install and a machine with the instruction set of the target pos-x86. A model is a float input, the 3-D
convolution in question, Relu, and another 3-D convolution of 16 channels. dsedge quantizes it under that target's
contract, with the first convolution in INT8 and in float. Both run in ONNX Runtime with one thread,
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
CHANNELS, KERNELS = (1, 3, 4, 8, 12, 16, 24, 32), (1, 3)
DEPTH, HEIGHT, WIDTH = 8, 28, 28


def write(path: Path, channels: int, kernel: int) -> None:
    """The model, with seeded normal weights; the first convolution is called "first", its Relu "relu"."""
    rng = np.random.default_rng(0)
    shapes = {"w0": (16, channels, *[kernel] * 3), "w1": (32, 16, 3, 3, 3)}
    weights = [numpy_helper.from_array(rng.standard_normal(s, dtype=np.float32), name) for name, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="first", pads=[kernel // 2] * 6),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w1"], ["y"], name="behind", strides=[2, 2, 2]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, DEPTH, HEIGHT, WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "volume", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def without_rule(contract: Contract) -> Contract:
    """The contract with every convolution in INT8."""
    return replace(
        contract, operators=tuple(replace(r, when=(), alone=None) if r.op == "Conv" else r for r in contract.operators)
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    contract = without_rule(load_backend("onnxruntime").contract(load_target(HOST)))
    cells = []
    for channels, kernel in product(CHANNELS, KERNELS):
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "volume.onnx"
            write(source, channels, kernel)
            shape = (1, channels, DEPTH, HEIGHT, WIDTH)
            times = float_against_int8(source, contract, shape, ("first", "relu"), Path(folder), SECONDS)
        name = f"{kernel}x{kernel}x{kernel}, {channels} channels"
        cells.append((name, *(f"{ms:.3f}" for ms in times[:2]), f"{times[2]:.2f}"))
    columns = ("3-D convolution", "float ms#", "INT8 ms#", "INT8 / float#")
    show(table(columns, cells, title=f"3-D convolutions, contract {contract.id}, 1 thread"))


if __name__ == "__main__":
    main()
