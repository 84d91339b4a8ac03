"""Compares dsedge with ONNX Runtime's own quantizer and with NNCF: speed, fidelity, size, and what quantizing costs.

    python tools/compare_peers.py [--models resnet50,digits_cnn] [--json FILE]

Needs `pip install "dsedge[models,peers]"` and a machine with the instruction set of the target pos-x86. Each quantizer
gets the same ONNX file and the same calibration samples, and runs three times, each in a process of its own; the least
seconds and the least memory count. Then one process opens the float model and all artifacts in ONNX Runtime with one
thread and times them in turns, each round in another order. Every setting of a peer is a row; one that fails is a row
with its error.

A table a model:

    ms           median time of one inference, and the interquartile range
    x float      median over the rounds of float time / this time
    SQNR dB      against the float model, over all held-out samples
    INT8         heavy operators (convolutions, matrix products, LSTM) that ONNX Runtime executes in INT8
    quantize s   the quantizer's work, imports excluded; for dsedge the steps that the peers have too
    process s    the whole process; for dsedge the whole compilation: baseline, audit, verification, measurement too
    peak MB      of resident memory of the whole process

and a verdict: dsedge against the fastest peer (2% are noise), against the best SQNR among the peers within 5% of the
fastest, and against the quickest and the smallest quantization of any peer. The exit code is 1 when a verdict is no.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from common import ROOT, UNTRAINED, export_untrained, time_in_turns
from quantizers import Samples, read_samples
from workers import run_worker

from dsedge.bench.runner import load_onnxruntime, sqnr
from dsedge.cli.output import show
from dsedge.report.terminal import table
from dsedge.session import open_session

SECONDS = 20.0
REPEATS = 3
NOISE = 0.02
AS_FAST = 0.05
SQNR_TOLERANCE_DB = 0.05

_HEAVY_INT8 = re.compile(r"QLinear(Conv|MatMul)|QGemm|(Conv|MatMul)Integer.*|DynamicQuantize(LSTM|MatMul)")
_HEAVY_FLOAT = re.compile(r"(Fused)?(Conv|Gemm|MatMul)|ConvTranspose|LSTM|GRU|RNN")

# Entropy calibration is left out: with the bins that `quantize_static` gives it, its ranges are those of min-max.
STATIC: dict[str, tuple[str, dict[str, Any]]] = {
    "dsedge": ("dsedge", {}),
    "onnxruntime, min-max": ("onnxruntime static", {"method": "MinMax"}),
    "onnxruntime, mean min-max": ("onnxruntime static", {"method": "MinMax", "CalibMovingAverage": True}),
    "onnxruntime, percentile 99.99": ("onnxruntime static", {"method": "Percentile", "CalibPercentile": 99.99}),
    "onnxruntime, percentile 99.999": ("onnxruntime static", {"method": "Percentile"}),
    "nncf, mixed": ("nncf", {}),
    "nncf, performance": ("nncf", {"preset": "performance"}),
    "nncf, mixed, per tensor": ("nncf", {"per_tensor": True}),
    "nncf, mixed, per tensor, histogram": ("nncf", {"per_tensor": True, "ranges": "HISTOGRAM"}),
}
RECURRENT: dict[str, tuple[str, dict[str, Any]]] = {
    "dsedge": ("dsedge", {}),
    **{
        f"onnxruntime dynamic, {weights}, {'per channel' if per_channel else 'per tensor'}, {title}": (
            "onnxruntime dynamic",
            {"weights": weights, "per_channel": per_channel, "op_types_to_quantize": operators},
        )
        for per_channel in (False, True)
        for weights in ("QInt8", "QUInt8")
        for title, operators in (("LSTM", ["LSTM"]), ("all", None))
    },
    "nncf, mixed": ("nncf", {}),
}


@dataclass(frozen=True)
class Case:
    """A model to compare on.

    Attributes:
        name: of the model.
        model: the ONNX file.
        calibration: an .npz.
        held_out: samples for SQNR and timing.
    """

    name: str
    model: Path
    calibration: Path
    held_out: Samples


@dataclass
class Row:
    """What is known about one artifact; fields stay None where there was an error.

    Attributes:
        error: why there is no artifact.
        seconds, process_seconds, peak_rss_mb: what quantizing cost.
        times: milliseconds of each round.
    """

    name: str
    artifact: Path
    error: str | None = None
    seconds: float | None = None
    process_seconds: float | None = None
    peak_rss_mb: float | None = None
    steps: Mapping[str, float] | None = None
    notes: Iterable[str] = ()
    times: npt.NDArray[np.float64] | None = None
    sqnr_db: float | None = None
    size_mb: float | None = None
    int8: str = ""


def prepare(name: str, folder: Path) -> Case:
    """The ONNX file and the data of a model; for the untrained ones 32 photograph crops, and 32 others held out."""
    if name not in UNTRAINED:
        home = ROOT / "models" / name
        return Case(name, home / f"{name}.onnx", home / "calibration.npz", read_samples(home / "evaluation.npz"))
    sys.path.insert(0, str(ROOT))
    from models.untrained import photo_crops

    calibration = folder / "calibration.npz"
    np.savez(calibration, image=photo_crops(32, seed=1))
    held_out = [{"image": crop[None]} for crop in photo_crops(32, seed=2)]
    return Case(name, export_untrained(name, folder), calibration, held_out)


def quantize_all(case: Case, variants: Mapping[str, tuple[str, dict[str, Any]]], folder: Path) -> list[Row]:
    """Run every variant in processes of its own, in turns."""
    rows = [Row(name, folder / f"{i}.onnx") for i, name in enumerate(variants)]
    for _ in range(REPEATS):
        for row in rows:
            print(f"{case.name}: {row.name}", file=sys.stderr, flush=True)
            tool, options = variants[row.name]
            job = {"tool": tool, "options": options, "artifact": str(row.artifact)}
            job |= {"model": str(case.model), "calibration": str(case.calibration)}
            _take(row, run_worker(Path(__file__).with_name("quantizers.py"), job))
    return rows


def _take(row: Row, result: Mapping[str, Any]) -> None:
    if row.error or "error" in result:
        row.error = row.error or result["error"]
        return
    if row.seconds is None or result["seconds"] < row.seconds:
        row.steps, row.notes = result.get("steps"), result["notes"]
    for name in ("seconds", "process_seconds", "peak_rss_mb"):
        before = getattr(row, name)
        setattr(row, name, result[name] if before is None else min(before, result[name]))


def measure(case: Case, rows: list[Row]) -> None:
    """Fill in what the artifacts do: times, SQNR, size and the operators in INT8."""
    runs = []
    for row in rows:
        try:
            runs.append(load_onnxruntime(row.artifact, 1) if not row.error else None)
        except Exception as error:  # a peer's artifact that ONNX Runtime refuses is a row as well
            row.error = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            runs.append(None)
    good = [(row, run) for row, run in zip(rows, runs, strict=True) if run is not None]
    reference = None
    for row, run in good:
        outputs = np.concatenate([run(feeds)[0].ravel() for feeds in case.held_out])
        reference = outputs if reference is None else reference
        row.sqnr_db = sqnr(reference, outputs)
        row.size_mb = row.artifact.stat().st_size / 1e6
        row.int8 = _int8_share(row.artifact)
    times = time_in_turns([run for _, run in good], case.held_out[0], SECONDS)
    for (row, _), mine in zip(good, times, strict=True):
        row.times = mine


def _int8_share(artifact: Path) -> str:
    """How many of the heavy operators in the graph that ONNX Runtime executes are INT8."""
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(artifact, threads=1, save_optimized=optimized)
        ops = [node.op_type for node in onnx.load(optimized).graph.node]
    int8 = sum(_HEAVY_INT8.fullmatch(op) is not None for op in ops)
    return f"{int8}/{int8 + sum(_HEAVY_FLOAT.fullmatch(op) is not None for op in ops)}"


def verdict(rows: list[Row]) -> list[tuple[str, bool, str]]:
    """Dsedge against its peers.

    Several peers make the same graph, and the luckiest of them looks faster than it is. So the fastest is chosen by
    every second round, and compared by the other rounds.

    Args:
        rows: float first, then dsedge, then the peers.

    Returns:
        For each claim its name, whether it holds, and the figures; one claim that does not hold when there is nothing
        to compare.
    """
    (base, ours), peers = rows[:2], [row for row in rows[2:] if row.times is not None]
    if ours.times is None or base.times is None or not peers:
        return [("comparison", False, ours.error or "no peer made an artifact")]

    choosing, judging = slice(0, None, 2), slice(1, None, 2)
    fastest = max(peers, key=lambda row: _ratio(ours, row, choosing))
    rivals = [row for row in peers if _ratio(fastest, row, choosing) >= 1 - AS_FAST]
    nearest = max(rivals, key=_sqnr)
    quickest = min(peers, key=lambda row: row.seconds or np.inf)
    smallest = min(peers, key=lambda row: row.peak_rss_mb or np.inf)
    of_float, of_fastest = _ratio(ours, base, judging), _ratio(ours, fastest, judging)
    return [
        ("not slower than float", of_float <= 1, f"x{1 / of_float:.2f}"),
        (
            "as fast as the fastest peer",
            of_fastest <= 1 + NOISE,
            f"{of_fastest:.3f} of the time of {fastest.name}",
        ),
        (
            "SQNR at least equal",
            _sqnr(ours) >= _sqnr(nearest) - SQNR_TOLERANCE_DB,
            f"{_sqnr(ours):.2f} dB against {_sqnr(nearest):.2f} dB of {nearest.name}",
        ),
        (
            "quantizes in less time",
            (ours.seconds or np.inf) < (quickest.seconds or 0),
            f"{ours.seconds:.3f} s against {quickest.seconds:.3f} s of {quickest.name}",
        ),
        (
            "quantizes in less memory",
            (ours.peak_rss_mb or np.inf) < (smallest.peak_rss_mb or 0),
            f"{ours.peak_rss_mb:.0f} MB against {smallest.peak_rss_mb:.0f} MB of {smallest.name}",
        ),
    ]


def _ratio(row: Row, other: Row, rounds: slice) -> float:
    """Median over rounds of the time of one row / that of another."""
    assert row.times is not None and other.times is not None
    return float(np.median(row.times[rounds] / other.times[rounds]))


def _sqnr(row: Row) -> float:
    return np.inf if row.sqnr_db is None else row.sqnr_db


def print_table(case: Case, rows: list[Row]) -> None:
    columns = (
        "artifact",
        "ms#",
        "IQR#",
        "x float#",
        "SQNR dB#",
        "MB#",
        "INT8#",
        "quantize s#",
        "process s#",
        "peak MB#",
    )
    cells: list[tuple[object, ...]] = []
    for row in rows:
        if row.times is None or rows[0].times is None:
            cells.append((row.name, f"failed: {row.error}"))
            continue
        low, middle, high = np.percentile(row.times, (25, 50, 75))
        cost = [(row.seconds, ".2f"), (row.process_seconds, ".2f"), (row.peak_rss_mb, ".0f")]
        cells.append(
            (
                row.name,
                f"{middle:.3f}",
                f"{high - low:.3f}",
                f"{np.median(rows[0].times / row.times):.2f}",
                "" if row.sqnr_db is None else f"{row.sqnr_db:.2f}",
                f"{row.size_mb:.2f}",
                row.int8,
                *("" if value is None else format(value, form) for value, form in cost),
            )
        )
    rounds = 0 if rows[0].times is None else rows[0].times.size
    show(table(columns, cells, title=f"{case.name}: {len(case.held_out)} held-out samples, {rounds} rounds, 1 thread"))
    for row in rows:
        for note in row.notes:
            print(f"{row.name}: {note}")
        if row.steps:
            print(
                f"{row.name}: seconds a step: " + ", ".join(f"{k} {v:.2f}" for k, v in row.steps.items() if v >= 0.01)
            )


def as_json(row: Row) -> dict[str, Any]:
    values = {k: v for k, v in vars(row).items() if k not in ("artifact", "times")}
    quartiles = None if row.times is None else np.percentile(row.times, (25, 50, 75)).tolist()
    return {**values, "notes": list(row.notes), "ms_quartiles": quartiles}


def main() -> int:
    known = [*UNTRAINED, "digits_cnn", "fraud_lstm"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(known), help="names, separated by commas (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    names = args.models.split(",")
    if unknown := set(names) - set(known):
        parser.error(f"unknown model: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    results, all_hold = {}, True
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            case = prepare(name, Path(folder))
            variants = RECURRENT if name == "fraud_lstm" else STATIC
            rows = [Row("float", case.model), *quantize_all(case, variants, Path(folder))]
            measure(case, rows)
        print_table(case, rows)
        claims = verdict(rows)
        for claim, holds, figures in claims:
            print(f"{name}: {claim}: {'yes' if holds else 'NO'} ({figures})")
        print()
        all_hold &= all(holds for _, holds, _ in claims)
        results[name] = {"rows": [as_json(row) for row in rows], "verdict": claims}
        if args.json:
            args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
