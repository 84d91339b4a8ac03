"""Compares where dsedge and NVIDIA ModelOpt put Q/DQ pairs for TensorRT, and what comes of it.

    python tools/compare_modelopt.py --modelopt-python PYTHON [--models resnet50,minilm] [--json FILE]

PYTHON is an interpreter with `pip install "nvidia-modelopt[onnx]"`, in an environment of its own; this one needs
`pip install "dsedge[models,tensorrt-rtx]"`. No GPU is used. Both get the same ONNX file and the same calibration
samples, and run `--repeats` times in turns, each time in a process of its own; the least seconds and memory count.
ModelOpt calibrates on the CPU by its two methods. A table a model:

    pairs        inputs of operators that read an activation through a Q/DQ pair
    tensors      activations that are read so
    SQNR dB      of the float32 Q/DQ graph in ONNX Runtime, unfused, against the float model on held-out samples
    kernels      of the engine that NVIDIA's compiler (tensorrt-rtx, for the A100) makes of the float16 Q/DQ graph
    INT8         of the convolutions and matrix products, those that run in it
    quantize s   from the model to the Q/DQ graph, imports excluded
    process s    the whole process; for dsedge the whole compilation: baseline, audit, verification, bundle too
    peak MB      of resident memory of the whole process

then every difference in placement by kind, with the SQNR and the kernels of the graph that has these pairs, with them
and without them. The exit code is 1 where a claim that is printed below does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from cases import RECIPES, Case, prepare
from fidelity import Fidelity
from modelopt_worker import TARGET
from placement import Difference, differences, pairs, tensors, without
from workers import run_worker

from dsedge.backends.base import load_backend
from dsedge.backends.tensorrt import oracle
from dsedge.backends.tensorrt.capability import capability
from dsedge.cli.output import show
from dsedge.frontend import load
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.report.terminal import table
from dsedge.session import open_session
from dsedge.target import load_target

MODELS = ("resnet50", "mobilenet_v2", "yolov5n", "minilm", "bert_base")
SAMPLES, REPEATS = 16, 2
TOLERANCE_DB = 0.05
FASTER = {"resnet50": 5.0}
"""Model -> how many times faster than by ModelOpt's defaults it must be quantized."""

METHODS = ("entropy", "max")
"""Of ModelOpt's calibration, its default first. Where pairs stand does not depend on it."""


@dataclass
class Row:
    """What is known about one quantizer's graphs; fields stay None where there was an error, or no compiler.

    Attributes:
        error: why there is no graph.
        sqnr_db, agreement: of the float32 graph, by name.
        kernels: of the engine.
        products, int8: how many convolutions and matrix products it has, and how many of them in INT8.
    """

    name: str
    error: str | None = None
    seconds: float | None = None
    process_seconds: float | None = None
    peak_rss_mb: float | None = None
    pairs: int | None = None
    tensors: int | None = None
    sqnr_db: dict[str, float] | None = None
    agreement: dict[str, float] | None = None
    kernels: int | None = None
    products: int | None = None
    int8: int | None = None


@dataclass(frozen=True)
class Graphs:
    """The graphs of a quantizer: `exact` in float32, `typed` in float16."""

    exact: ir.Model
    typed: ir.Model


def quantize(case: Case, folder: Path, python: str, repeats: int) -> tuple[list[Row], dict[str, Graphs]]:
    """Run the quantizers in turns."""
    tools: dict[str, tuple[str, dict[str, str]]] = {"dsedge": ("dsedge", {})}
    for method in METHODS:
        options = {"calibration_method": method, "high_precision_dtype": "fp32"}
        tools[f"modelopt, {method}"] = ("modelopt", options)
    rows = {name: Row(name) for name in tools}
    for name, (tool, options) in [*tools.items()] * repeats:
        _take(rows[name], _run(case, folder / f"{name}.onnx", tool, options, python))
    _run(case, folder / "typed.onnx", "modelopt", {"calibration_method": METHODS[0]}, python)  # fp16 is its default
    graphs = {}
    for name, (tool, _) in tools.items():
        typed = folder / (f"{name}.fp16.onnx" if tool == "dsedge" else "typed.onnx")
        if rows[name].error is None:
            graphs[name] = Graphs(ir.load(folder / f"{name}.onnx"), ir.load(typed))
    return list(rows.values()), graphs


def _run(case: Case, artifact: Path, tool: str, options: dict[str, str], python: str) -> dict[str, Any]:
    print(f"{case.name}: {artifact.stem}", file=sys.stderr, flush=True)
    job = {"tool": tool, "options": options, "artifact": str(artifact)}
    job |= {"python": python} if tool == "modelopt" else {}
    job |= {"model": str(case.model.resolve()), "calibration": str(case.calibration)}
    return run_worker(Path(__file__).with_name("modelopt_worker.py"), job)


def _take(row: Row, result: dict[str, Any]) -> None:
    row.error = row.error or result.get("error")
    for name in ("seconds", "process_seconds", "peak_rss_mb") if row.error is None else ():
        before = getattr(row, name)
        setattr(row, name, result[name] if before is None else min(before, result[name]))


def outputs(case: Case, graph: ir.Model | Path) -> dict[str, list[Any]]:
    """What a graph computes for the held-out samples, every node as it is written."""
    session = open_session(graph, optimize=False)
    results = [session.run(None, feeds) for feeds in case.held_out]
    return {out.name: [result[i] for result in results] for i, out in enumerate(session.get_outputs())}


def fidelity_of(case: Case, reference: dict[str, list[Any]], graph: ir.Model) -> Fidelity:
    """A graph against the float model."""
    got = outputs(case, graph)
    return RECIPES[case.name].compare(case.held_out, reference, {name: got[name] for name in reference})


def compiled(graph: ir.Model) -> tuple[int, int, int] | None:
    """Kernels, products and those in INT8 that NVIDIA's compiler makes of a graph; None where it is not installed."""
    if oracle.version() is None:
        return None
    verdict = oracle.check(graph, capability(load_target(TARGET)).number)
    if not verdict.accepted:
        raise SystemExit(f"the compiler refuses the graph: {verdict.failure or verdict.errors[0].reason}")
    products = [n.name or "" for n in graph.graph if n.op_type in ("Conv", "Gemm", "MatMul")]
    int8 = sum(any(layer.on_codes for layer in verdict.of(name)) for name in products)
    return sum(layer.kind not in ("signal", "wait") for layer in verdict.layers), len(products), int8


def plan_reasons(model: Path) -> dict[str, str]:
    """Node -> what dsedge's plan says of it."""
    graph = normalize(load(model))[0].graph.graph
    plan = annotate(graph, load_backend("tensorrt").contract(load_target(TARGET)))
    return {name: node.reason for name, node in plan.nodes.items()}


def compare(name: str, exports: Path, python: str, *, samples: int, repeats: int) -> dict[str, Any]:
    """Make the tables of a model, print them with the claims, and return all of it for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        case = prepare(name, Path(folder), exports, samples)
        rows, graphs = quantize(case, Path(folder), python, repeats)
        if missing := [f"{row.name}: {row.error}" for row in rows if row.error]:
            raise SystemExit(f"{name}: {'; '.join(missing)}")
        reference = outputs(case, case.model)
        for row in rows:
            found = fidelity_of(case, reference, graphs[row.name].exact)
            row.sqnr_db, row.agreement = found.sqnr_db, found.agreement
            row.pairs, row.tensors = len(pairs(graphs[row.name].exact)), tensors(graphs[row.name].exact)
            if built := compiled(graphs[row.name].typed):
                row.kernels, row.products, row.int8 = built
        best = max(rows[1:], key=_worst)
        ours, theirs = graphs["dsedge"], graphs[best.name]
        apart = differences(pairs(ours.exact), pairs(theirs.exact), plan_reasons(case.model))
        effects = [_effect(case, reference, each, ours if each.ours else theirs) for each in apart]
    _print_rows(case, rows)
    _print_differences(name, rows[0], best, apart, effects)
    claims = verdict(name, rows, best)
    for claim, holds, figures in claims:
        print(f"{name}: {claim}: {'yes' if holds else 'NO'} ({figures})")
    print(flush=True)
    listed = [asdict(each) | effect for each, effect in zip(apart, effects, strict=True)]
    return {"rows": [asdict(row) for row in rows], "differences": listed, "claims": claims}


def _effect(case: Case, reference: dict[str, list[Any]], difference: Difference, graphs: Graphs) -> dict[str, Any]:
    """The graph that has some pairs, without them."""
    slots = set(difference.slots)
    built = compiled(without(graphs.typed, slots))
    measured = fidelity_of(case, reference, without(graphs.exact, slots))
    return {"sqnr_db": measured.sqnr_db, "kernels": built and built[0]}


def verdict(name: str, rows: list[Row], best: Row) -> list[tuple[str, bool, str]]:
    """The claims: dsedge's row against the others."""
    ours, default = rows[0], rows[1]
    figures = f"{_worst(ours):.2f} dB against {_worst(best):.2f} dB of {best.name}"
    claims = [("SQNR at least equal", _worst(ours) >= _worst(best) - TOLERANCE_DB, figures)]
    if name in FASTER:
        ratio = (default.seconds or 0.0) / (ours.seconds or 1.0)
        seconds = f"{ours.seconds:.2f} s against {default.seconds:.2f} s of {default.name}, x{ratio:.1f}"
        claims.append((f"quantized {FASTER[name]:g} times faster", ratio >= FASTER[name], seconds))
    return claims


def _worst(row: Row) -> float:
    return min((row.sqnr_db or {"": float("-inf")}).values())


def _decibel(ratios: dict[str, float] | None) -> str:
    return " ".join(f"{ratio:.2f}" for ratio in (ratios or {}).values())


def _print_rows(case: Case, rows: list[Row]) -> None:
    heading = "graph,pairs#,tensors#,SQNR dB#,agreement#,kernels#,INT8#,quantize s#,process s#,peak MB#"
    cells = [
        (
            row.name,
            row.pairs,
            row.tensors,
            _decibel(row.sqnr_db),
            " ".join(f"{share:.1%}" for share in (row.agreement or {}).values()),
            "" if row.kernels is None else row.kernels,
            "" if row.int8 is None else f"{row.int8}/{row.products}",
            f"{row.seconds:.2f}",
            f"{row.process_seconds:.2f}",
            f"{row.peak_rss_mb:.0f}",
        )
        for row in rows
    ]
    measured = ", ".join([*(rows[0].sqnr_db or {}), *(rows[0].agreement or {})])
    show(table(heading.split(","), cells, title=f"{case.name} ({measured}): {len(case.held_out)} held-out samples"))


def _print_differences(name: str, ours: Row, best: Row, apart: list[Difference], effects: list[dict[str, Any]]) -> None:
    if not apart:
        print(f"{name}: every pair stands where ModelOpt's does")
    for each, effect in zip(apart, effects, strict=True):
        row = ours if each.ours else best
        print(f"{name}: only {row.name}: {len(each.slots)} x {each.kind}: {each.reason}")
        changed = f"SQNR {_decibel(row.sqnr_db)} with, {_decibel(effect['sqnr_db'])} dB without"
        kernels = f"; kernels {row.kernels} with, {effect['kernels']} without" if row.kernels else ""
        print(f"    {changed}{kernels}; at {', '.join(f'{node}[{i}]' for node, i in each.slots)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modelopt-python", required=True, metavar="PYTHON", help="interpreter that has ModelOpt")
    parser.add_argument("--models", default=",".join(MODELS), help="names, separated by commas (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--exports", type=Path, help="folder of exported models, which is filled (default: none)")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="runs of each quantizer (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="at most, a model (default: %(default)s)")
    args = parser.parse_args()
    names = args.models.split(",")
    if unknown := set(names) - set(RECIPES):
        parser.error(f"unknown model: {', '.join(sorted(unknown))}; known: {', '.join(RECIPES)}")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        exports = args.exports or Path(folder)
        exports.mkdir(parents=True, exist_ok=True)
        for name in names:
            results[name] = compare(name, exports, args.modelopt_python, samples=args.samples, repeats=args.repeats)
            if args.json:
                args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(holds for result in results.values() for _, holds, _ in result["claims"]) else 1


if __name__ == "__main__":
    sys.exit(main())
