"""Measure: the artifact and its float sibling, timed in turns on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dsedge.backends.base import Predict
from dsedge.bench.runner import time_alternately
from dsedge.bundle import Latency
from dsedge.data import Feeds

_BUDGET_MS = 3000.0
_RUNS = (20, 300)


def measure(runs_of: Mapping[str, Predict], feeds: Feeds, runtime: str, threads: int) -> list[Latency]:
    """Time several artifacts of one runtime in turns.

    Args:
        runs_of: precision -> function from feeds to outputs.
        feeds: one sample.
        runtime: name and version, for the rows.
        threads: that the artifacts were opened with.

    Returns:
        A row for each, in milliseconds, over as many runs as fit into three seconds (20 to 300).
    """
    functions = list(runs_of.values())
    trial = time_alternately(functions, feeds, 3)
    once = sum(min(times) for times in trial)
    runs = int(np.clip(_BUDGET_MS / max(once, 1e-3), *_RUNS))
    batch = next((len(array) for array in feeds.values() if array.ndim), 1)
    shapes = ", ".join(f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in feeds.items())
    conditions = _conditions() | {"batch": batch, "inputs": shapes}
    return [
        Latency(
            runtime=runtime,
            precision=precision,
            median_ms=float(np.median(times)),
            p90_ms=float(np.percentile(times, 90)),
            runs=runs,
            threads=threads,
            where=f"this machine ({platform.machine()})",
            conditions=conditions,
        )
        for precision, times in zip(runs_of, time_alternately(functions, feeds, runs), strict=True)
    ]


def _conditions() -> dict[str, str | float | int | None]:
    """What the figures were taken under; None where the machine does not tell."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "governor": governor.read_text().strip() if governor.is_file() else None,
        "method": "alternated with the float artifact, one process",
    }


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
