"""Profile: what each operator of an artifact costs, by ONNX Runtime's own profiler."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.backends.base import Cost
from dsedge.data import Feeds
from dsedge.errors import VerifyError
from dsedge.session import INT8_KERNELS, open_session

_RUNS, _WARM_UP = 20, 3
_END = "_kernel_time"


def profile(path: Path, feeds: Feeds, threads: int) -> list[Cost]:
    """Run an artifact 20 times under the profiler.

    Args:
        path: the main file of an artifact.
        feeds: one sample.
        threads: to compute with.

    Returns:
        The operators of the graph that the runtime executes, with the median time of each.
    """
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "profile"
        try:
            session = open_session(path, threads=threads, profile=record)
        except VerifyError:  # then it is loaded as `run.py` does it
            session = open_session(path, threads=threads, profile=record, config=INT8_KERNELS)
        for _ in range(_WARM_UP + _RUNS):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _costs(events)


def _costs(events: Iterable[dict[str, Any]]) -> list[Cost]:
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_END):
            node = event["name"].removesuffix(_END)
            times[node, event["args"]["op_name"]].append(event["dur"] / 1e3)
    # A body of a loop runs more often than once: what it takes altogether is its cost.
    return [
        Cost(node, op, float(np.median(found)) * max(len(found) // (_WARM_UP + _RUNS), 1))
        for (node, op), found in times.items()
    ]
