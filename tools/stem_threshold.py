"""Measures which convolutions are worth beginning INT8 with: the rule in backends/onnxruntime/contract.py.

    python tools/stem_threshold.py

Needs the core install and a machine with the instruction set of the target pos-x86. A model is a float input, the
convolution in question with Relu, and a 1x1 convolution which is INT8 in any case. dsedge quantizes it twice under that
target's contract: with the first convolution in INT8, so that the input is quantized, and in float, so that its result
is. Both run in ONNX Runtime with one thread, in turns. Printed are the median times and the median ratio, by the number
of products that a result of the convolution adds up (input channels / groups * kernel area).
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
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

SECONDS = 2.0


@dataclass(frozen=True)
class Stem:
    """A convolution with a square input of `size` pixels a side; depthwise where `groups` is `channels`."""

    channels: int
    outputs: int
    kernel: int
    stride: int
    size: int
    groups: int = 1

    @property
    def products(self) -> int:
        """How many products one result adds up."""
        return self.channels // self.groups * self.kernel**2

    def __str__(self) -> str:
        kind = "depthwise" if self.groups > 1 else "dense"
        shape = f"{self.kernel}x{self.kernel}/{self.stride}"
        return f"{kind} {shape}, {self.channels} -> {self.outputs}, {self.size}x{self.size}"


STEMS = (
    Stem(1, 32, 3, 1, 64),
    Stem(1, 64, 5, 1, 64),
    Stem(1, 64, 5, 2, 128),
    Stem(3, 64, 3, 1, 128),
    Stem(32, 32, 3, 1, 112, groups=32),
    Stem(96, 96, 3, 1, 56, groups=96),
    Stem(16, 32, 1, 1, 112),
    Stem(32, 32, 5, 1, 112, groups=32),
    Stem(3, 32, 3, 2, 224),
    Stem(3, 16, 3, 2, 224),
    Stem(32, 32, 1, 1, 112),
    Stem(4, 32, 3, 2, 224),
    Stem(3, 96, 4, 4, 224),
    Stem(64, 64, 1, 1, 56),
    Stem(8, 32, 3, 1, 112),
    Stem(3, 32, 5, 2, 224),
    Stem(3, 32, 6, 2, 320),
    Stem(3, 64, 7, 2, 224),
)


def write_stem(path: Path, stem: Stem) -> None:
    """The model: Conv "stem", Relu, Conv 1x1 to 64 channels, with seeded normal weights."""
    rng = np.random.default_rng(0)
    shapes = {
        "w0": (stem.outputs, stem.channels // stem.groups, stem.kernel, stem.kernel),
        "b0": (stem.outputs,),
        "w1": (64, stem.outputs, 1, 1),
        "b1": (64,),
    }
    weights = [numpy_helper.from_array(rng.standard_normal(s, dtype=np.float32), name) for name, s in shapes.items()]
    pads = {"pads": [stem.kernel // 2] * 4, "strides": [stem.stride] * 2}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["a"], name="stem", group=stem.groups, **pads),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w1", "b1"], ["y"], name="next"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, stem.channels, stem.size, stem.size])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "stem", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def without_stem_rule(contract: Contract) -> Contract:
    """The contract with every convolution in INT8."""
    return replace(contract, operators=tuple(replace(rule, alone=None) for rule in contract.operators))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    contract = without_stem_rule(load_backend("onnxruntime").contract(load_target(HOST)))
    cells = []
    for stem in sorted(STEMS, key=lambda stem: stem.products):
        with tempfile.TemporaryDirectory() as folder:
            source, shape = Path(folder) / "stem.onnx", (1, stem.channels, stem.size, stem.size)
            write_stem(source, stem)
            times = float_against_int8(source, contract, shape, ("stem", "relu"), Path(folder), SECONDS)
        cells.append((stem.products, stem, *(f"{ms:.3f}" for ms in times[:2]), f"{times[2]:.2f}"))
    columns = ("products#", "first convolution", "float ms#", "INT8 ms#", "INT8 / float#")
    show(table(columns, cells, title=f"A convolution that begins INT8, contract {contract.id}, 1 thread"))


if __name__ == "__main__":
    main()
