"""Compiles and verifies every ONNX file of a folder, and prints a row for each.

    python tools/zoo_report.py FOLDER [--target pos-x86] [--runtime auto] [--calib random] [--json rows.json]

Needs the core install. Each file is compiled in a process of its own, so that a crash or a hang of a runtime is a row
too. Columns: the artifact's precision, or the code of the error; whether the bundle verifies; operators in INT8 of all;
the INT8 share of the multiply-accumulates, at the lengths of the golden samples; the worst output's SQNR against float;
how many times as fast as float (where the target is this machine); the most frequent reasons for operators in float.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

import dsedge
from dsedge.bundle import Bundle
from dsedge.cli.output import show
from dsedge.errors import DsedgeError
from dsedge.frontend import load
from dsedge.gates import LATENCY_VS_FLOAT
from dsedge.inspect import node_macs
from dsedge.passes.normalize import normalize
from dsedge.report.terminal import table
from dsedge.verify import verify_bundle

_CONTEXT = mp.get_context("forkserver")
_REASONS = 3


@dataclass
class Row:
    """What became of one file.

    Attributes:
        file: its path below the folder.
        status: the precision of the artifact, or the code of the error; "crash" and "timeout" for a lost process.
        verified: "yes", a code, or "" when there was no bundle.
        because: the error, on one line.
        int8_ops, total_ops: of the artifact.
        int8_macs: INT8 share of the multiply-accumulates, 0 to 1; None when the model has none.
        sqnr_db: of the worst output; None when the outputs are identical to float or not of floats.
        ratio: latency of float over the artifact's, 1 for the float artifact itself; None when not measured.
        islands: reason -> operators that run in float for it, the most frequent first.
        gates: the gates that failed.
        artifact: what the runtime made of it, in a sentence.
        notes: of the bundle.
    """

    file: str
    status: str = ""
    verified: str = ""
    because: str = ""
    int8_ops: int | None = None
    total_ops: int | None = None
    int8_macs: float | None = None
    sqnr_db: float | None = None
    ratio: float | None = None
    islands: dict[str, int] = field(default_factory=dict)
    gates: list[str] = field(default_factory=list)
    artifact: str = ""
    notes: list[str] = field(default_factory=list)


def examine(path: Path, name: str, target: str, runtime: str, calibration: str) -> Row:
    """Compile and verify one file, in this process."""
    row = Row(name)
    with tempfile.TemporaryDirectory() as folder:
        try:
            out = Path(folder) / "bundle"
            bundle = dsedge.compile(path, target=target, runtime=runtime, calibration=calibration, output=out)
        except DsedgeError as error:
            return Row(name, error.code, because=" ".join(str(error).split()))
        except Exception as error:  # the command line would say DS999
            return Row(name, "DS999", because=f"{type(error).__name__}: {error}")
        _describe(row, bundle)
        try:
            verify_bundle(bundle)
            row.verified = "yes"
        except DsedgeError as error:
            row.verified, row.because = error.code, " ".join(str(error).split())
        row.int8_macs = _int8_macs(path, bundle)
    return row


def _describe(row: Row, bundle: Bundle) -> None:
    manifest = bundle.manifest
    found = manifest.precision
    row.status, row.int8_ops, row.total_ops = found.precision, found.int8_ops, found.total_ops
    row.islands = dict(Counter(f"{i.op}: {i.reason}" for i in found.islands).most_common())
    row.sqnr_db = manifest.fidelity.sqnr_db if manifest.fidelity else None
    slower = next((g.value for g in manifest.gates if g.name == LATENCY_VS_FLOAT), None)
    row.ratio = None if not slower else 1.0 if found.precision == "float32" else 1 / slower
    row.gates, row.notes, row.artifact = [g.name for g in manifest.failed], manifest.notes, found.audit


def _int8_macs(path: Path, bundle: Bundle) -> float | None:
    with np.load(bundle.file("golden"), allow_pickle=False) as golden:
        shapes = {s["name"]: list(golden[f"input_{i}"].shape[1:]) for i, s in enumerate(bundle.manifest.model.inputs)}
    plan = json.loads(bundle.file("plan").read_text(encoding="utf-8"))
    islands = {i.node for i in bundle.manifest.precision.islands}
    eight = {n["name"] for n in plan["nodes"] if n["precision"].startswith("int8")} - islands
    macs = {node.name: node_macs(node) for node in normalize(load(path, shapes=shapes))[0].graph.graph}
    total = sum(macs.values())
    return sum(count for node, count in macs.items() if node in eight) / total if total else None


def _child(connection: Connection, *arguments: str) -> None:
    path, *others = arguments
    connection.send(examine(Path(path), *others))


def _in_process(path: Path, timeout: float, name: str, *options: str) -> Row:
    mine, other = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_child, args=(other, str(path), name, *options))
    process.start()
    other.close()
    try:
        return mine.recv() if mine.poll(timeout) else Row(name, "timeout", because=f"no result after {timeout:g} s")
    except EOFError:
        process.join()
        return Row(name, "crash", because=f"the process ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()


def report(files: list[Path], root: Path, options: Sequence[str], jobs: int, timeout: float) -> Iterator[Row]:
    """A row for each file, in order; `jobs` of them at a time. The options are target, runtime and calibration."""
    _CONTEXT.set_forkserver_preload(["dsedge.compiler", "dsedge.backends.onnxruntime", "onnx", "onnxruntime"])
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda f: _in_process(f, timeout, str(f.relative_to(root)), *options), files)


def _cells(row: Row) -> list[str]:
    reasons = "; ".join(f"{count} {reason}" for reason, count in list(row.islands.items())[:_REASONS])
    return [
        row.file.removesuffix(".onnx"),
        row.status + "".join(f" ({gate} failed)" for gate in row.gates),
        row.verified,
        "" if row.total_ops is None else f"{row.int8_ops}/{row.total_ops}",
        "" if row.int8_macs is None else f"{row.int8_macs:.0%}",
        "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        row.because or reasons,
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder with .onnx files, also in folders of it, or one file")
    parser.add_argument("--target", default="pos-x86", help="board (default pos-x86)")
    parser.add_argument("--runtime", default="auto", help="one of the board's (default auto)")
    parser.add_argument("--calib", default="random", help="calibration data for all of them (default random)")
    parser.add_argument("--jobs", type=int, default=1, help="files at a time (default 1: latency is measured)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for a file (default 300)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    root = args.folder if args.folder.is_dir() else args.folder.parent
    files = sorted(args.folder.rglob("*.onnx")) if args.folder.is_dir() else [args.folder]
    rows = []
    for row in report(files, root, (args.target, args.runtime, args.calib), args.jobs, args.timeout):
        rows.append(row)
        print(f"[{len(rows)}/{len(files)}] {row.file} {row.status} {row.verified}", file=sys.stderr, flush=True)
    columns = ("file", "result", "verified", "INT8 ops", "INT8 MACs#", "SQNR dB#", "x float#", "why")
    show(table(columns, map(_cells, rows)))
    show(", ".join(f"{count} {status}" for status, count in Counter(row.status for row in rows).most_common()))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
