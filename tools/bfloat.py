"""Measures bfloat16 on OpenVINO: what it gains, and how near its artifacts are to the graph that rounds as they do.

    python tools/bfloat.py [--models resnet50,minilm] [--exports FOLDER] [--seconds 20]

Needs `pip install "dsedge[models,openvino]"` and a machine with the instruction set of the target x86-server. All
artifacts of a model run in turns with one thread; each ratio is the median over the rounds of float32's time / this
one's. `INT8 / rest in bf16` is INT8 against INT8 whose float rest is in bfloat16: what a candidate would gain that
dsedge does not make.

    graph dB     the graph with the rounding of each node, executed by the reference, against the float model
    artifact dB  the artifact; `candidate.py` bounds how far it may fall behind the graph
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from cases import RECIPES, prepare
from common import time_in_turns

from dsedge.backends import openvino
from dsedge.backends.openvino.bfloat import record
from dsedge.cli.output import show
from dsedge.data import Batch
from dsedge.frontend import load
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.insert import insert
from dsedge.quant.precision import annotate_as_asked, parse_request
from dsedge.report.terminal import table
from dsedge.streaming import open_samples
from dsedge.target import load_target
from dsedge.verify import predictor, run_all, sqnr_by_output

TARGET = load_target("x86-server")
CONTRACT = openvino.contract(TARGET)
SAMPLES = 4


def artifact(model: Model, precision: str, samples: list[Batch], folder: Path) -> tuple[Path, float]:
    """Build an artifact, without the nodes that the audit refuses; and the SQNR of its graph, in dB."""
    graph, lifted = normalize(model)[0].graph, dict[str, str]()
    for attempt in range(2):
        plan = annotate_as_asked(graph.graph, CONTRACT, parse_request(precision), lifted=lifted)
        values = [name for name in plan.values if name not in graph.graph.initializers]
        observers, _ = calibrate(graph, values, samples, "minmax")
        written = insert(graph, assign_ranges(plan, graph.graph, CONTRACT, observers, "minmax"), CONTRACT)
        where = folder / f"{precision}{attempt}"
        where.mkdir()
        built = openvino.build(written, where)
        lifted |= openvino.audit(built, plan, TARGET).unmatched
        if not lifted:
            break
    outputs = (run_all(predictor(g, optimize=False), samples) for g in (graph, written))
    return built.main, _least(sqnr_by_output(*outputs))


def with_rest_in_bfloat16(path: Path) -> Path:
    """A copy of an INT8 artifact whose float operators compute in bfloat16."""
    from openvino import Core, save_model

    model = Core().read_model(path)
    record(model)
    save_model(model, path.with_name("rest.xml"), compress_to_fp16=False)
    return path.with_name("rest.xml")


def measured(model: Model, samples: list[Batch], seconds: float, folder: Path) -> tuple[object, ...]:
    """A row: ratios of time, the gain of the float rest in bfloat16, and the two SQNR of bfloat16."""
    made = {name: artifact(model, name, samples, folder) for name in ("fp32", "bf16", "int8")}
    paths: Mapping[str, Path] = {name: path for name, (path, _) in made.items()}
    functions = [openvino.load(path, 1) for path in (*paths.values(), with_rest_in_bfloat16(paths["int8"]))]
    floats, brain, eight, rest = time_in_turns(functions, samples[0].feeds, seconds)
    reached = _least(sqnr_by_output(run_all(functions[0], samples), run_all(functions[1], samples)))
    ratios = (np.median(ratio) for ratio in (floats / brain, floats / eight, eight / rest))
    return (*(f"{ratio:.3f}" for ratio in ratios), f"{made['bf16'][1]:.1f}", f"{reached:.1f}")


def _least(ratios: list[float | None]) -> float:
    return min((ratio for ratio in ratios if ratio is not None), default=float("inf"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet50,minilm,mobilenet_v2", help=f"of {', '.join(RECIPES)}")
    parser.add_argument("--exports", type=Path, help="where exported models are kept")
    parser.add_argument("--seconds", type=float, default=20.0, help="for which a model is timed, roughly")
    args = parser.parse_args()
    matches, why = TARGET.matches_host()
    if not matches:
        parser.error(why)
    rows = []
    for name in args.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            case = prepare(name, Path(folder), args.exports or Path(folder), SAMPLES)
            model = load(case.model)
            samples = open_samples(case.calibration, model, recipe=None).head(SAMPLES)
            rows.append((name, *measured(model, samples, args.seconds, Path(folder))))
    columns = ("model", "bf16 x float#", "INT8 x float#", "INT8 / rest in bf16#", "graph dB#", "artifact dB#")
    show(table(columns, rows, title="bfloat16 on OpenVINO, 1 thread"))


if __name__ == "__main__":
    main()
