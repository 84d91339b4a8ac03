"""What `make demo` runs: two trained models compiled with real data for two boards, and one table.

    python tools/demo.py

Needs the core install only. Bundles are written to build/demo/. The exit code is that of `dsedge compile`: 1 when a
gate failed, 2 or 3 when a model could not be compiled.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import dsedge
from dsedge.cli.output import progress, show, show_error
from dsedge.report.terminal import comparison_table

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = Path("build/demo")


@dataclass(frozen=True)
class Job:
    """A compilation: `model` is a folder of models/, `max_drop` is in points of `metric`."""

    model: str
    target: str
    metric: str
    max_drop: float


JOBS = (
    Job("digits_cnn", "raspberry-pi-5", "top1", 0.5),
    Job("digits_cnn", "pos-x86", "top1", 0.5),
    Job("fraud_lstm", "pos-x86", "auc", 0.3),
)


def compile_job(job: Job, output: Path) -> dsedge.Bundle:
    """Compile a shipped model with the data that lies beside it."""
    home = ROOT / "models" / job.model
    with progress(shown=True) as report:
        return dsedge.compile(
            home / f"{job.model}.onnx",
            target=job.target,
            calibration=home / "calibration.npz",
            evaluate=(home / "evaluation.npz", job.metric),
            max_drop=job.max_drop,
            output=output / f"{job.model}-{job.target}",
            force=True,
            progress=report,
        )


def main() -> int:
    os.chdir(ROOT)
    bundles, worst, start = [], 0, time.perf_counter()
    for job in JOBS:
        print(f"compiling {job.model} for {job.target}", flush=True)
        try:
            bundle = compile_job(job, OUTPUT)
        except dsedge.DsedgeError as error:
            show_error(error)
            worst = max(worst, error.exit_code)
            continue
        bundles.append(bundle)
        worst = max(worst, 1 if bundle.manifest.failed else 0)
    print(f"{time.perf_counter() - start:.1f} s\n")
    if bundles:
        show(comparison_table(bundles))
        first = (
            bundles[0].path.relative_to(Path.cwd()) if bundles[0].path.is_relative_to(Path.cwd()) else bundles[0].path
        )
        print("What to do next, with the environment's `dsedge` (.venv/bin/dsedge):")
        print(f"  dsedge explain {first}    what is INT8, what is not, and why")
        print(f"  dsedge verify {first}     hashes, and golden outputs through the real runtime")
        print(f"  {first}/report.html       everything that is known about the bundle")
        print(f"  copy {first} to the board and run `python run.py --bench` in it: it needs numpy and onnxruntime")
    return worst


if __name__ == "__main__":
    sys.exit(main())
