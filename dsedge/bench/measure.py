"""Measure: artifacts timed in turns on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsedge.backends.base import Predict
from dsedge.bench.runner import time_alternately
from dsedge.bundle import Latency
from dsedge.data import Feeds

_BUDGET_MS = 1500.0
_RUNS = (20, 300)


@dataclass(frozen=True)
class Contender:
    """An artifact to time.

    Attributes:
        runtime: name and version, for its row.
        precision: of the artifact, for its row.
        predict: runs it.
        feeds: one sample as the artifact takes it.
    """

    runtime: str
    precision: str
    predict: Predict
    feeds: Feeds


def measure(contenders: Sequence[Contender], threads: int) -> list[Latency]:
    """Time several artifacts in turns, in one process.

    Args:
        contenders: at least one.
        threads: that they were opened with.

    Returns:
        A row for each, in milliseconds, over as many runs as fit into a second and a half for each (20 to 300). Among
        its conditions are those that the runtime reads back, see `conditions` of the runner's loaders.
    """
    functions = [lambda _, c=c: c.predict(c.feeds) for c in contenders]
    once = sum(min(times) for times in time_alternately(functions, None, 3))
    runs = int(np.clip(_BUDGET_MS * len(contenders) / max(once, 1e-3), *_RUNS))
    conditions = _conditions()
    return [
        Latency(
            runtime=contender.runtime,
            precision=contender.precision,
            median_ms=float(np.median(times)),
            p90_ms=float(np.percentile(times, 90)),
            iqr_ms=float(np.subtract(*np.percentile(times, [75, 25]))),
            runs=runs,
            threads=threads,
            where=f"this machine ({platform.machine()})",
            conditions=conditions | _shapes(contender.feeds) | getattr(contender.predict, "conditions", {}),
        )
        for contender, times in zip(contenders, time_alternately(functions, None, runs), strict=True)
    ]


def _shapes(feeds: Feeds) -> dict[str, str | int]:
    shapes = ", ".join(f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in feeds.items())
    return {"batch": next((len(array) for array in feeds.values() if array.ndim), 1), "inputs": shapes}


def _conditions() -> dict[str, str | float | int | None]:
    """What the figures were taken under; None where the machine does not tell."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_1min": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "governor": governor.read_text().strip() if governor.is_file() else None,
        "method": "all artifacts in turns, one process",
    }


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
