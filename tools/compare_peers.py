"""Compares dsedge with its peers, on one runtime or on all: speed, fidelity, size, and what quantizing costs.

    python tools/compare_peers.py [--runtime openvino|all] [--models resnet50,minilm] [--json FILE] [--exports FOLDER]

In ONNX Runtime the peers are its own quantizers and NNCF, in LiteRT ai-edge-quantizer, in OpenVINO NNCF. Needs
`pip install "dsedge[models,peers]"` and a machine with the instruction set of the target pos-x86. Each quantizer gets
the same model and the same calibration samples, and runs `--repeats` times, each in a process of its own; the least
seconds and the least memory count. Then one process opens the float model and all artifacts in the runtime with one
thread and its defaults, and times them in turns, each round in another order. Every setting of a peer is a row; one
that fails is a row with its error. The float models of LiteRT and OpenVINO are those that dsedge writes; LiteRT's
peer reads its one too. In OpenVINO what is float is computed in float32, not in bfloat16.

With `--runtime all` dsedge chooses the runtime, every peer makes its artifacts on each runtime that it has, and
"float" is the fastest float model of any runtime.

A table a model:

    counts       no: an output below 5 dB or an agreement below 90%; such a row is shown, but is no measure for others
    ms           median time of one inference, and the interquartile range
    x float      median over the rounds of float time / this time
    SQNR dB      against the float model, over all held-out samples, of the worst output; of encoders, tokens that are
                 no padding; of detectors, boxes and scores
    agreement    of detectors: best classes of confident candidates, and detections after NMS, that the float model has
    INT8         heavy operators (convolutions, matrix products, LSTM) that the runtime executes in INT8
    quantize s   the quantizer's work, imports excluded; for dsedge the steps that the peers have too
    process s    the whole process; for dsedge the whole compilation: baseline, audit, verification, measurement too
    peak MB      of resident memory of the whole process

and a verdict: dsedge against float, against what the model must reach (`cases.py`), and against the peers that count:
the fastest (2% are noise, as against float), the best SQNR among those within 5% of the fastest, and the quickest and
the smallest quantization of any. The exit code is 1 when a verdict is no. With `--json`, models that the file holds are
not run again, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cases import RECIPES, Case, Variants, prepare, variants_on
from common import time_in_turns
from quantizers import TARGET
from verdict import Row, verdict
from workers import run_worker

import dsedge.compiler
from dsedge.bench.runner import LOADERS
from dsedge.cli.output import show
from dsedge.errors import DsedgeError
from dsedge.report.terminal import table
from dsedge.session import open_session

SECONDS, REPEATS, SAMPLES = 20.0, 3, 32

_RUNTIMES = {".onnx": "onnxruntime", ".tflite": "litert", ".xml": "openvino"}
_HEAVY_INT8 = re.compile(r"QLinear(Conv|MatMul)|QGemm|QAttention|(Conv|MatMul)Integer.*|DynamicQuantize(LSTM|MatMul)")
_HEAVY_TFLITE = re.compile(r"CONV|FULLY_CONNECTED|BATCH_MATMUL|LSTM")
_HEAVY_IR = re.compile(r"Convolution|Deconvolution|FullyConnected|MatMul|RNN(Cell|Seq)")
_HEAVY_FLOAT = re.compile(r"(Fused)?(Conv|Gemm|MatMul)|ConvTranspose|(MultiHead)?Attention|LSTM|GRU|RNN")


def quantize_all(
    case: Case, variants: Variants, folder: Path, repeats: int = 1, floats: Path | None = None
) -> list[Row]:
    """Run every variant in processes of its own, in turns; `floats` is the float model as the runtime reads it."""
    floats = floats or case.model
    rows = [Row(name, folder / f"{i}{floats.suffix}") for i, name in enumerate(variants)]
    for _ in range(repeats):
        for row in rows:
            if row.error:
                continue
            print(f"{case.name}: {row.name}", file=sys.stderr, flush=True)
            tool, options = variants[row.name]
            options = options | ({"float": str(floats.resolve())} if tool == "ai-edge-quantizer" else {})
            job = {"tool": tool, "options": options, "artifact": str(row.artifact)}
            job |= {"model": str(case.model.resolve()), "calibration": str(case.calibration)}
            _take(row, run_worker(Path(__file__).with_name("quantizers.py"), job))
    return rows


def _take(row: Row, result: Mapping[str, Any]) -> None:
    if "error" in result:
        row.error = result["error"]
        return
    if row.seconds is None or result["seconds"] < row.seconds:
        row.steps, row.notes = result.get("steps"), result["notes"]
        row.artifact = Path(result.get("artifact", row.artifact))
    for name in ("seconds", "process_seconds", "peak_rss_mb"):
        before = getattr(row, name)
        setattr(row, name, result[name] if before is None else min(before, result[name]))


def measure(case: Case, rows: list[Row], seconds: float = SECONDS) -> None:
    """Fill in what the artifacts do: times, fidelity, size and the operators in INT8."""
    names = [value.name for value in onnx.load(case.model, load_external_data=False).graph.output]
    runs, reference = [], None
    for row in rows:
        if row.error:
            continue
        try:
            run = LOADERS[_RUNTIMES[row.artifact.suffix]](row.artifact, 1)
            results = [run(feeds) for feeds in case.held_out]
        except Exception as error:  # a peer's artifact that the runtime refuses is a row as well
            row.error = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            continue
        outputs = {name: list(arrays) for name, arrays in zip(names, zip(*results, strict=True), strict=True)}
        reference = reference or outputs
        row.fidelity = RECIPES[case.name].compare(case.held_out, reference, outputs)
        files = (row.artifact, row.artifact.with_suffix(".bin"))  # OpenVINO's weights
        row.size_mb = sum(file.stat().st_size for file in files if file.exists()) / 1e6
        row.int8 = _int8_share(row.artifact)
        runs.append((row, run))
    times = time_in_turns([run for _, run in runs], case.held_out[0], seconds)
    for (row, _), mine in zip(runs, times, strict=True):
        row.times = mine


def float_model(case: Case, folder: Path, runtime: str) -> Path:
    """The float model as a runtime reads it."""
    if runtime == "onnxruntime":
        return case.model
    bundle = dsedge.compiler.compile(
        case.model, target=TARGET, runtime=runtime, precision="fp32", output=folder / f"float-{runtime}", force=True
    )
    return bundle.file("model")


def rows_on(case: Case, runtime: str, folder: Path, repeats: int) -> list[Row]:
    """The float model on a runtime, then dsedge's artifact and the peers'."""
    floats = float_model(case, folder, runtime)
    variants = variants_on(runtime, RECIPES[case.name].variants)
    return [Row("float", floats), *quantize_all(case, variants, folder, repeats, floats)]


def rows_on_all(case: Case, folder: Path, repeats: int) -> list[Row]:
    """The float models on all runtimes, what dsedge chooses, and the peers' artifacts on all runtimes."""
    floats, peers = [], []
    for runtime in _RUNTIMES.values():
        variants = variants_on(runtime, RECIPES[case.name].variants)
        variants = {title: made for title, made in variants.items() if made[0] != "dsedge"}
        try:
            model = float_model(case, folder, runtime)
        except DsedgeError as error:
            floats.append(Row(f"float, {runtime}", folder, f"{error.code}: {error}".splitlines()[0]))
            continue
        floats.append(Row(f"float, {runtime}", model))
        (made_in := folder / runtime).mkdir()
        found = quantize_all(case, variants, made_in, repeats, model)
        peers += [replace(row, name=f"{runtime}: {row.name}") for row in found]
    ours = quantize_all(case, {"dsedge": ("dsedge", {"runtime": "auto"})}, folder, repeats)
    return [*floats, *ours, *peers]


def fastest_float_first(rows: list[Row]) -> list[Row]:
    """Rows of all runtimes as a verdict takes them: the fastest float one, dsedge's, the peers'."""
    floats = list(itertools.takewhile(lambda row: row.name.startswith("float"), rows))
    base = min(floats, key=lambda row: np.inf if row.times is None else float(np.median(row.times)))
    return [base, *rows[len(floats) :]]


def _int8_share(artifact: Path) -> str:
    """How many of the heavy operators that the runtime executes are INT8."""
    if artifact.suffix == ".tflite":
        return _int8_share_of_tflite(artifact)
    if artifact.suffix == ".xml":
        return _int8_share_of_ir(artifact)
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(artifact, threads=1, save_optimized=optimized)
        ops = [node.op_type for node in onnx.load(optimized).graph.node]
    int8 = sum(_HEAVY_INT8.fullmatch(op) is not None for op in ops)
    return f"{int8}/{int8 + sum(_HEAVY_FLOAT.fullmatch(op) is not None for op in ops)}"


def _int8_share_of_tflite(artifact: Path) -> str:
    from dsedge.backends.litert.read import read

    heavy = [operator for operator in read(artifact) if _HEAVY_TFLITE.search(operator.op)]
    return f"{sum(operator.precision in ('int8', 'hybrid') for operator in heavy)}/{len(heavy)}"


def _int8_share_of_ir(artifact: Path) -> str:
    from dsedge.backends.openvino.audit import executed

    heavy = [operator.precision for operator in executed(artifact) if _HEAVY_IR.fullmatch(operator.kind)]
    return f"{sum(precision in ('u8', 'i8') for precision in heavy)}/{len(heavy)}"


def print_table(case: Case, rows: list[Row]) -> None:
    heading = "artifact,counts,ms#,IQR#,x float#,SQNR dB#,agreement#,MB#,INT8#,quantize s#,process s#,peak MB#"
    cells: list[tuple[object, ...]] = []
    for row in rows:
        if row.times is None or rows[0].times is None or row.fidelity is None:
            cells.append((row.name, "no", f"failed: {row.error}"))
            continue
        low, middle, high = np.percentile(row.times, (25, 50, 75))
        cost = [(row.seconds, ".2f"), (row.process_seconds, ".2f"), (row.peak_rss_mb, ".0f")]
        cells.append(
            (
                row.name,
                "yes" if row.counts else "no",
                f"{middle:.3f}",
                f"{high - low:.3f}",
                f"{np.median(rows[0].times / row.times):.2f}",
                " ".join(f"{ratio:.2f}" for ratio in row.fidelity.sqnr_db.values()),
                " ".join(f"{share:.1%}" for share in row.fidelity.agreement.values()),
                f"{row.size_mb:.2f}",
                row.int8,
                *("" if value is None else format(value, form) for value, form in cost),
            )
        )
    rounds = 0 if rows[0].times is None else rows[0].times.size
    measured = rows[0].fidelity
    outputs = ", ".join([*measured.sqnr_db, *measured.agreement]) if measured else ""
    title = f"{case.name} ({outputs}): {len(case.held_out)} held-out samples, {rounds} rounds, 1 thread"
    show(table(heading.split(","), cells, title=title))
    for row in rows:
        for note in row.notes:
            print(f"{row.name}: {note}")
        if row.steps:
            print(
                f"{row.name}: seconds a step: " + ", ".join(f"{k} {v:.2f}" for k, v in row.steps.items() if v >= 0.01)
            )


def as_json(row: Row) -> dict[str, Any]:
    values = {k: v for k, v in vars(row).items() if k not in ("artifact", "times", "fidelity")}
    quartiles = None if row.times is None else np.percentile(row.times, (25, 50, 75)).tolist()
    ratios, agreement = (row.fidelity.sqnr_db, row.fidelity.agreement) if row.fidelity else ({}, {})
    values |= {"sqnr_db": {k: v if np.isfinite(v) else None for k, v in ratios.items()}, "agreement": agreement}
    return {**values, "counts": row.counts, "notes": list(row.notes), "ms_quartiles": quartiles}


def compare(name: str, exports: Path, *, runtime: str, samples: int, repeats: int, seconds: float) -> dict[str, Any]:
    """Make the table of a model, print it with its verdict, and return both for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        case = prepare(name, Path(folder), exports, samples)
        everywhere = runtime == "all"
        rows = rows_on_all(case, Path(folder), repeats) if everywhere else rows_on(case, runtime, Path(folder), repeats)
        measure(case, rows, seconds)
    print_table(case, rows)
    claims = verdict(fastest_float_first(rows) if everywhere else rows, RECIPES[name].goal)
    for claim, holds, figures in claims:
        print(f"{name}: {claim}: {'yes' if holds else 'NO'} ({figures})")
    print(flush=True)
    return {"rows": [as_json(row) for row in rows], "verdict": claims}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ",".join(RECIPES)
    parser.add_argument("--models", default=known, help="names, separated by commas (default: %(default)s)")
    parser.add_argument("--runtime", default="onnxruntime", choices=(*_RUNTIMES.values(), "all"))
    parser.add_argument("--json", type=Path, help="file to add the figures to, model by model")
    parser.add_argument("--exports", type=Path, help="folder of exported models, which is filled (default: none)")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="runs of each quantizer (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of timing, a model (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="at most, a model (default: %(default)s)")
    args = parser.parse_args()
    names = args.models.split(",")
    if unknown := set(names) - set(RECIPES):
        parser.error(f"unknown model: {', '.join(sorted(unknown))}; known: {known}")
    results = json.loads(args.json.read_text(encoding="utf-8")) if args.json and args.json.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        exports = args.exports or Path(folder)
        exports.mkdir(parents=True, exist_ok=True)
        for name in (name for name in names if name not in results):
            results[name] = compare(
                name,
                exports,
                runtime=args.runtime,
                samples=args.samples,
                repeats=args.repeats,
                seconds=args.seconds,
            )
            if args.json:
                args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(holds for name in names for _, holds, _ in results[name]["verdict"]) else 1


if __name__ == "__main__":
    sys.exit(main())
