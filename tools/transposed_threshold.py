"""Measures which transposed convolutions are faster as INT8 convolutions: backends/onnxruntime/sub_pixel.py.

    python tools/transposed_threshold.py

Needs the core install and a machine with the instruction set of the target pos-x86. A model is a 1x1 convolution, the
transposed one in question, and another 1x1 convolution. dsedge quantizes it under that target's contract, once as it
is, so that the transposed convolution stays float between INT8 ones, and once prepared. Both run in ONNX Runtime with
one thread, in turns. Printed are the median times and the median ratio.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from common import HOST, build_int8, time_in_turns
from onnx import TensorProto, helper, numpy_helper

from dsedge.backends.base import load_backend
from dsedge.backends.onnxruntime import load
from dsedge.cli.output import show
from dsedge.frontend import load as read
from dsedge.passes.normalize import normalize
from dsedge.quant.contract import Contract
from dsedge.report.terminal import table
from dsedge.target import load_target

SECONDS = 1.5


@dataclass(frozen=True)
class Transposed:
    """A transposed convolution with a square input of `size` pixels a side and `pad` on all sides."""

    channels: int
    outputs: int
    kernel: int
    stride: int
    size: int
    pad: int = 0

    def __str__(self) -> str:
        shape = f"{self.kernel}x{self.kernel}/{self.stride}, pad {self.pad}"
        return f"{shape}, {self.channels} -> {self.outputs}, {self.size}x{self.size}"


CASES = (
    Transposed(8, 1, 2, 2, 64),
    Transposed(8, 4, 2, 2, 64),
    Transposed(8, 8, 4, 2, 32, 1),
    Transposed(16, 1, 2, 2, 64),
    Transposed(16, 8, 2, 2, 64),
    Transposed(16, 16, 4, 2, 32, 1),
    Transposed(24, 24, 2, 2, 80),
    Transposed(32, 16, 2, 2, 64),
    Transposed(32, 32, 3, 2, 28, 1),
    Transposed(56, 1, 9, 3, 32, 4),
    Transposed(64, 32, 2, 2, 32),
    Transposed(64, 64, 3, 2, 14, 1),
    Transposed(64, 64, 4, 2, 28, 1),
    Transposed(64, 64, 5, 3, 14, 1),
    Transposed(256, 128, 4, 2, 8, 1),
)


def write(path: Path, case: Transposed) -> None:
    """The model, with seeded normal weights."""
    rng = np.random.default_rng(0)
    shapes = {
        "w0": (case.channels, 16, 1, 1),
        "w1": (case.channels, case.outputs, case.kernel, case.kernel),
        "b1": (case.outputs,),
        "w2": (16, case.outputs, 1, 1),
    }
    weights = [numpy_helper.from_array(rng.standard_normal(s, dtype=np.float32), name) for name, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="before"),
        helper.make_node(
            "ConvTranspose", ["a", "w1", "b1"], ["t"], name="up", strides=[case.stride] * 2, pads=[case.pad] * 4
        ),
        helper.make_node("Conv", ["t", "w2"], ["y"], name="behind"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, case.size, case.size])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "up", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def compare(case: Transposed, contract: Contract, folder: Path) -> tuple[float, float, float]:
    """Median milliseconds with it in float and as an INT8 convolution, and the median of their ratio."""
    source, prepared = folder / "up.onnx", folder / "prepared.onnx"
    write(source, case)
    ir.save(load_backend("onnxruntime").prepare(normalize(read(source))[0].graph), prepared)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 16, case.size, case.size), dtype=np.float32)}
    functions = []
    for path in (source, prepared):
        where = folder / path.stem
        where.mkdir()
        functions.append(load(build_int8(path, contract, feeds, where), 1))
    in_float, in_int8 = time_in_turns(functions, feeds, SECONDS)
    return float(np.median(in_float)), float(np.median(in_int8)), float(np.median(in_int8 / in_float))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    contract = load_backend("onnxruntime").contract(load_target(HOST))
    cells = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            in_float, in_int8, ratio = compare(case, contract, Path(folder))
        cells.append((case, f"{in_float:.3f}", f"{in_int8:.3f}", f"{ratio:.2f}"))
    columns = ("transposed convolution", "float ms#", "INT8 ms#", "INT8 / float#")
    show(table(columns, cells, title=f"Transposed convolutions, contract {contract.id}, 1 thread"))


if __name__ == "__main__":
    main()
