"""The metrics by name, and how a user names one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dsedge.errors import LoadError, did_you_mean
from dsedge.metrics import classification, detection, fidelity, ranking, segmentation, sequences, signals
from dsedge.metrics.base import Arrays, Metric
from dsedge.metrics.custom import import_function, user_metric

METRICS: dict[str, Metric] = {
    metric.name: metric
    for family in (classification, ranking, detection, segmentation, signals, sequences, fidelity)
    for metric in family.METRICS
}


def find_metric(wanted: str | Callable[[Arrays, np.ndarray], float], outputs: Sequence[str] = ()) -> Metric:
    """The metric that a user means.

    Args:
        wanted: a name; a name and the output to judge, `top1@probabilities`; `package.module:function`, which is
            imported, or the function itself: from all outputs of all samples, each [N, ...], and the labels [N, ...]
            to a number, of which more is better.
        outputs: names of the model's outputs.

    Raises:
        LoadError: DS125 when there is no such metric, output or function.
    """
    if callable(wanted):
        return user_metric(getattr(wanted, "__name__", "function"), wanted)
    name, at, output = wanted.partition("@")
    if ":" in name:
        metric = user_metric(name, import_function(name))
    elif name in METRICS:
        metric = METRICS[name]
    else:
        raise LoadError("DS125", f"no metric is called {name!r}", hint=did_you_mean(name, METRICS))
    if not at:
        return metric
    if output not in outputs:
        what = f"no output is called {output!r}"
        raise LoadError("DS125", what, where=wanted, hint=did_you_mean(output, outputs))
    return replace(metric, name=wanted, output=list(outputs).index(output))
