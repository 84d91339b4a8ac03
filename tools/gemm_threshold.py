"""Measures from which size on a matrix product is faster in INT8: the rule in backends/onnxruntime/contract.py.

    python tools/gemm_threshold.py [--dynamic]

Needs the core install and a machine with the instruction set of the target pos-x86. For every size a model of one Gemm
[rows, K] x [K, N] with a bias is quantized by dsedge under that target's contract without its rule on size. Both
versions run in ONNX Runtime with one thread, in turns; the INT8 one converts its float input, as it has to where a
float operator comes before it. Printed are the median times and the median ratio INT8 / float, by products rows*K*N;
then the size from which on no slower one was found. With --dynamic the input is quantized as it comes.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from common import HOST, build_int8, time_in_turns
from onnx import TensorProto, helper, numpy_helper

from dsedge.backends.base import load_backend
from dsedge.backends.onnxruntime import load
from dsedge.cli.output import show
from dsedge.quant.contract import Contract
from dsedge.report.terminal import table
from dsedge.target import load_target

ROWS = (1, 8, 32)
SIZES = ((64, 10), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (512, 256), (512, 512), (1024, 1024))
SECONDS = 0.5
SLOWER = 1.02
"""Ratios below it are taken for noise."""


def write_gemm(path: Path, rows: int, k: int, n: int) -> None:
    """A model of one Gemm, float32 [rows, k] -> [rows, n], with seeded normal weights."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.standard_normal((k, n), dtype=np.float32), "weight")
    bias = numpy_helper.from_array(rng.standard_normal(n, dtype=np.float32), "bias")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], name="gemm")],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, n])],
        [weight, bias],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def without_size_rule(contract: Contract, *, dynamic: bool = False) -> Contract:
    """The contract with every Gemm in INT8."""
    rules = contract.hybrid if dynamic else contract.operators
    operators = tuple(replace(rule, when=()) if rule.op == "Gemm" else rule for rule in rules)
    return replace(contract, operators=operators)


def compare(rows: int, k: int, n: int, contract: Contract, folder: Path) -> tuple[float, float, float]:
    """Median milliseconds in float and in INT8, and the median of their ratio."""
    source = folder / "gemm.onnx"
    write_gemm(source, rows, k, n)
    x = np.random.default_rng(1).standard_normal((rows, k), dtype=np.float32)
    artifact = build_int8(source, contract, {"x": x}, folder)
    functions = [load(path, 1) for path in (source, artifact)]
    float_times, int8_times = time_in_turns(functions, {"x": x}, SECONDS)
    return float(np.median(float_times)), float(np.median(int8_times)), float(np.median(int8_times / float_times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dynamic", action="store_true", help="measure the kernel that quantizes its input itself")
    dynamic = parser.parse_args().dynamic
    contract = without_size_rule(load_backend("onnxruntime").contract(load_target(HOST)), dynamic=dynamic)
    cells, slower = [], []
    for products, rows, k, n in sorted((rows * k * n, rows, k, n) for rows in ROWS for k, n in SIZES):
        with tempfile.TemporaryDirectory() as folder:
            in_float, in_int8, ratio = compare(rows, k, n, contract, Path(folder))
        cells.append((products, f"{rows} x {k} x {n}", f"{in_float:.4f}", f"{in_int8:.4f}", f"{ratio:.2f}"))
        if ratio > SLOWER:
            slower.append(products)
    columns = ("products#", "rows x K x N#", "float ms#", "INT8 ms#", "INT8 / float#")
    show(table(columns, cells, title=f"One Gemm, contract {contract.id}, 1 thread"))
    faster = [row[0] for row in cells if row[0] > max(slower, default=0)]
    print(f"INT8 is not slower from {min(faster)} products on" if faster else "INT8 is slower at the largest size")


if __name__ == "__main__":
    main()
