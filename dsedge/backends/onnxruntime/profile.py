"""Profile: what each operator of an artifact costs, by ONNX Runtime's own profiler."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.backends.base import Cost
from dsedge.backends.onnxruntime.audit import plain_name
from dsedge.data import Feeds
from dsedge.errors import VerifyError
from dsedge.session import INT8_KERNELS, open_session

_RUNS, _WARM_UP = 20, 3
_END = "_kernel_time"
_SUMMAND = 3
"""Index of the input that a convolution adds to its result, where the optimizer took a sum up into it."""


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
        record, optimized = Path(folder) / "profile", Path(folder) / "optimized.onnx"
        try:
            session = open_session(path, threads=threads, profile=record, save_optimized=optimized)
        except VerifyError:  # then it is loaded as `run.py` does it
            session = open_session(path, threads=threads, profile=record, save_optimized=optimized, config=INT8_KERNELS)
        for _ in range(_WARM_UP + _RUNS):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        made_of, reads = _made_of(ir.load(optimized).graph, ir.load(path).graph)
    return [replace(cost, nodes=made_of.get(cost.node, ()), reads=reads.get(cost.node, ())) for cost in _costs(events)]


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


def _made_of(optimized: ir.Graph, written: ir.Graph) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """For each node of the optimized graph the names of those it is made of, and the nodes that write what it reads."""
    sums = {v.name: node.name or "" for node in written if node.op_type == "Add" for v in node.inputs if v is not None}
    made_of, reads = {}, {}
    for node in optimized:
        name = node.name or ""
        names = [plain_name(node), *(v.name or "" for v in node.outputs)]
        if node.op_type == "Conv" and len(node.inputs) > _SUMMAND and names[0] in sums:
            names.append(sums[names[0]])
        made_of[name] = tuple(names)
        sources = [v.producer() for v in node.inputs if v is not None]
        reads[name] = tuple(source.name or "" for source in sources if source is not None)
    return made_of, reads
