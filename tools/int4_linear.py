"""Measures a linear layer in INT4 blocks: the choices in backends/onnxruntime/contract.py and blocks.py.

    python tools/int4_linear.py

Needs the core install and a machine with the instruction set of the target pos-x86. A model of one Gemm
[rows, K] x [K, N] with seeded normal weights is built by dsedge in INT8 and in INT4, with every size of block, with and
without a zero point, and with activations rounded to INT8 (accuracy_level 4) or left in float (0). All run in ONNX
Runtime with one thread, in turns. Printed are the median times, how many times as fast as float that is, the size of
the file and the SQNR of the output. Then, for small layers, INT4 as dsedge ships it against float.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from common import HOST, build_int8, time_in_turns
from gemm_threshold import without_size_rule, write_gemm

from dsedge.backends.base import load_backend
from dsedge.backends.onnxruntime import build, load
from dsedge.bench.runner import sqnr
from dsedge.cli.output import show
from dsedge.frontend import load as load_model
from dsedge.passes.normalize import normalize
from dsedge.quant.contract import Contract, NumberFormat
from dsedge.quant.insert import insert
from dsedge.quant.precision import Request, annotate_as_asked
from dsedge.quant.rounding import round_weights
from dsedge.report.terminal import table
from dsedge.target import load_target

LAYERS = ((384, 1536), (768, 3072))
ROWS = (1, 128)
BLOCKS = (16, 32, 64, 128)
SMALL = ((64, 64), (128, 128), (256, 128), (256, 256), (512, 256), (512, 512))
SECONDS = 1.0


def build_int4(source: Path, contract: Contract, folder: Path, *, size: int, symmetric: bool, level: int) -> Path:
    """The artifact of a model with its linear layers in INT4."""
    contract = replace(
        contract,
        block=NumberFormat("uint4", symmetric=symmetric, bits=4, block=size),
        blocked=tuple(replace(rule, when=()) for rule in contract.blocked),
    )
    model = normalize(load_model(source))[0].graph
    plan, _ = round_weights(model, annotate_as_asked(model.graph, contract, Request("int4")), contract, {}, {})
    path = build(insert(model, plan, contract), folder).main
    proto = onnx.load(path)
    (attribute,) = [a for node in proto.graph.node for a in node.attribute if a.name == "accuracy_level"]
    attribute.i = level
    onnx.save(proto, path)
    return path


def compare(
    rows: int, k: int, n: int, contract: Contract, settings: list[tuple[int, bool, int]], *, int8: bool
) -> list[tuple[str, float, float, int, float | None]]:
    """Name, milliseconds, times as fast as float, bytes and SQNR of float, INT8 and every INT4 setting."""
    x = np.random.default_rng(1).standard_normal((rows, k), dtype=np.float32)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        artifacts = {"float": folder / "gemm.onnx"}
        write_gemm(artifacts["float"], rows, k, n)
        if int8:
            (folder / "int8").mkdir()
            artifacts["INT8"] = build_int8(artifacts["float"], without_size_rule(contract), {"x": x}, folder / "int8")
        for size, symmetric, level in settings:
            name = f"INT4, blocks of {size}, {'symmetric' if symmetric else 'zero points'}, level {level}"
            where = folder / name
            where.mkdir()
            artifacts[name] = build_int4(
                artifacts["float"], contract, where, size=size, symmetric=symmetric, level=level
            )
        functions = [load(path, 1) for path in artifacts.values()]
        times: npt.NDArray[np.float64] = time_in_turns(functions, {"x": x}, SECONDS)
        outputs = [function({"x": x})[0] for function in functions]
        return [
            (
                name,
                float(np.median(mine)),
                float(np.median(times[0] / mine)),
                path.stat().st_size,
                sqnr(outputs[0], output),
            )
            for (name, path), mine, output in zip(artifacts.items(), times, outputs, strict=True)
        ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    contract = load_backend("onnxruntime").contract(load_target(HOST))
    every = [(size, symmetric, level) for size in BLOCKS for symmetric in (True, False) for level in (0, 4)]
    columns = ("", "ms#", "times as fast#", "kB#", "SQNR dB#")
    for k, n in LAYERS:
        for rows in ROWS:
            found = compare(rows, k, n, contract, every, int8=True)
            cells = [
                (name, f"{ms:.4f}", f"{ratio:.2f}", f"{size / 1000:,.0f}", "" if db is None else f"{db:.1f}")
                for name, ms, ratio, size, db in found
            ]
            show(table(columns, cells, title=f"One Gemm, {rows} x {k} x {n}, contract {contract.id}, 1 thread"))
    cells = []
    for k, n in SMALL:
        for rows in (1, 32):
            shipped = compare(rows, k, n, contract, [(32, False, 4)], int8=False)
            cells.append(
                (f"{k * n:,}", f"{rows} x {k} x {n}", *(f"{row[1]:.4f}" for row in shipped), f"{shipped[1][2]:.2f}")
            )
    show(table(("weights#", "rows x K x N#", "float ms#", "INT4 ms#", "times as fast#"), cells, title="Small layers"))


if __name__ == "__main__":
    main()
