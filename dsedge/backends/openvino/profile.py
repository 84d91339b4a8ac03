"""Profile: what each operator of an artifact costs, by the counters of OpenVINO's CPU plugin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsedge.backends.base import Cost
from dsedge.bench.runner import compile_openvino
from dsedge.data import Feeds

_RUNS, _WARM_UP = 20, 3
_NO_OPERATORS = ("Const", "Input", "Output")
_OF_PAIR = "_DequantizeLinear"
"""How the Q/DQ graph names the pair of a value; the plugin gives an operator the name of the pair that it took up."""


def profile(path: Path, feeds: Feeds, threads: int) -> list[Cost]:
    """Run an artifact 20 times with counters.

    Args:
        path: the main file of an artifact.
        feeds: one sample.
        threads: to compute with.

    Returns:
        The operators of the graph that the plugin executes, with the median time of each.
    """
    compiled = compile_openvino(path, threads, profiled=True)
    request = compiled.create_infer_request()
    times: dict[str, list[float]] = defaultdict(list)
    for run in range(_WARM_UP + _RUNS):
        request.infer(feeds)
        for counter in request.get_profiling_info() if run >= _WARM_UP else ():
            if str(counter.status) == "Status.EXECUTED":
                times[counter.node_name].append(counter.real_time.total_seconds() * 1e3)
    found = [_cost(operator, times) for operator in compiled.get_runtime_model().get_ordered_ops() if _runs(operator)]
    return [cost for cost in found if cost.ms or cost.reads]  # without what is done to constants when it is loaded


def _runs(operator: Any) -> bool:
    return _kind(operator) not in _NO_OPERATORS


def _kind(operator: Any) -> str:
    return str(operator.get_rt_info()["layerType"].astype(str))


def _cost(operator: Any, times: Mapping[str, list[float]]) -> Cost:
    name, kind = operator.get_friendly_name(), _kind(operator)
    names = operator.get_rt_info()["originalLayersNames"].astype(str).split(",")
    sources = [port.get_source_output().get_node() for port in operator.inputs()]
    return Cost(
        name,
        kind,
        float(np.median(times.get(name, 0.0))),
        tuple(own.removesuffix(_OF_PAIR).removesuffix("/WithoutBiases") for own in names if own),
        tuple(source.get_friendly_name() for source in sources if _runs(source)),
    )
