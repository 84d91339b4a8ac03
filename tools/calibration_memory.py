"""Shows that the memory of calibration does not grow with the number of samples.

    python tools/calibration_memory.py

Needs `pip install "dsedge[models]"`. MobileNetV2 is normalized, annotated for the target pos-x86, and calibrated with
32 and with 512 samples that a generator makes one at a time, for every range method, each time in a process of its
own. Printed are the peak of resident memory (the whole process), how much of it calibration added to what the imports
and the loaded model took, and the ratios of 512 to 32. The exit code is 1 when a peak grows by more than 10%.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import HOST, export_untrained
from workers import peak_rss_mb, run_worker

from dsedge.backends.base import load_backend
from dsedge.cli.output import show
from dsedge.data import Batch
from dsedge.frontend import load
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.observers import METHODS, Method
from dsedge.report.terminal import table
from dsedge.target import load_target

COUNTS = (32, 512)
LIMIT = 1.10


def samples(count: int) -> Iterator[Batch]:
    """Images of noise, one at a time."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield Batch({"image": rng.standard_normal((1, 3, 224, 224), dtype=np.float32)}, 1, None)


def calibrate_once(path: Path, method: Method, count: int) -> dict[str, float]:
    """Calibrate in this process; `before_mb` is the peak until then, `peak_mb` the one at the end."""
    model, _ = normalize(load(path))
    contract = load_backend("onnxruntime").contract(load_target(HOST))
    graph = model.graph.graph
    plan = annotate(graph, contract)
    values = [name for name in plan.values if name not in graph.initializers]
    before, start = peak_rss_mb(), time.perf_counter()
    observers, _ = calibrate(model.graph, values, samples(count), method)
    assign_ranges(plan, graph, contract, observers, method)
    return {"before_mb": before, "peak_mb": peak_rss_mb(), "seconds": time.perf_counter() - start}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # what a worker is told
    job = parser.parse_args().job
    if job:
        print(json.dumps(calibrate_once(Path(job["model"]), job["method"], job["count"])))
        return 0
    cells, holds = [], True
    with tempfile.TemporaryDirectory() as folder:
        model = export_untrained("mobilenet_v2", Path(folder))
        for method in METHODS:
            runs = []
            for count in COUNTS:
                print(f"{method}: {count} samples", file=sys.stderr, flush=True)
                run = run_worker(Path(__file__), {"model": str(model), "method": method, "count": count})
                if "error" in run:
                    raise SystemExit(run["error"])
                runs.append(run)
            few, many = runs
            ratio = many["peak_mb"] / few["peak_mb"]
            added = [run["peak_mb"] - run["before_mb"] for run in runs]
            holds &= ratio <= LIMIT
            memory = (f"{few['peak_mb']:.0f}", f"{many['peak_mb']:.0f}", f"{ratio:.3f}")
            growth = (f"{added[0]:.0f}", f"{added[1]:.0f}", f"{added[1] / added[0]:.3f}")
            cells.append((method, *memory, *growth, f"{few['seconds']:.1f}", f"{many['seconds']:.1f}"))
    few_head, many_head = (f"{count}" for count in COUNTS)
    columns = ("method", f"peak MB, {few_head}#", f"{many_head}#", "ratio#")
    columns += (f"added MB, {few_head}#", f"{many_head}#", "ratio#", f"s, {few_head}#", f"{many_head}#")
    show(table(columns, cells, title="Peak resident memory of calibrating MobileNetV2, by number of samples"))
    print(f"within {LIMIT - 1:.0%} for every method: {'yes' if holds else 'NO'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
