"""Runs a model over evaluation data, batch by batch, and judges its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dsedge.data import Batch, Data, Feeds
from dsedge.errors import LoadError
from dsedge.metrics.base import Arrays, Metric

MAX_BATCH = 32

Predict = Callable[[Feeds], list[np.ndarray]]


def evaluate(predict: Predict, data: Data, metric: Metric, reference: Predict | None = None) -> tuple[float, int]:
    """The metric of a model.

    Args:
        predict: from feeds to all outputs.
        data: opened with `labelled=True`, unless the metric is against the float model.
        metric: what to compute.
        reference: the float model, for a metric against it; by default `predict` itself.

    Returns:
        The value, NaN when a judged output holds NaN (which passes no gate), and how many samples it stands for.

    Raises:
        LoadError: DS124 when labels are missing, or do not fit the outputs or the metric.
    """
    parts: list[Any] = []
    samples, defined = 0, True
    for batch in data.batches(MAX_BATCH):
        if batch.labels is None and not metric.against_float:
            raise LoadError("DS124", f"{metric.name} needs labels", where=data.source)
        outputs = _judged(predict(batch.feeds), metric, batch, data.source)
        samples += batch.count
        defined = defined and not any(output.dtype.kind == "f" and np.isnan(output).any() for output in outputs)
        if not defined:
            continue
        labels: Any = batch.labels
        if metric.against_float:
            labels = _judged(reference(batch.feeds), metric, batch, data.source) if reference else outputs
        parts.append(metric.partial(outputs, labels))
    return (metric.total(parts) if defined else float("nan")), samples


def _judged(outputs: list[Any], metric: Metric, batch: Batch, where: str) -> Arrays:
    """The outputs that a metric looks at, each [count, ...]."""
    first = metric.output or 0
    chosen = outputs if metric.output is None else outputs[first : first + 1]
    return [_per_sample(output, first + i, metric, batch, where) for i, output in enumerate(chosen)]


def _per_sample(output: Any, index: int, metric: Metric, batch: Batch, where: str) -> np.ndarray:
    """The output [count, ...] without the rows of padding; a model without a batch axis gets one."""
    hint = f"name the output to judge: --metric {metric.name.partition('@')[0]}@NAME"
    array = np.asarray(output) if isinstance(output, np.ndarray | np.generic) else None
    if array is None or array.dtype.kind not in "fiub":
        what = f"output {index} is no array of numbers, {metric.name} cannot judge it"
        raise LoadError("DS124", what, where=where, hint=hint)
    if array.ndim and len(array) == batch.count + batch.padding:
        return array[: batch.count]
    if not batch.padding and (batch.count == 1 or metric.against_float):
        return array[None]
    rows = batch.count + batch.padding
    what = f"output {index} has the shape {list(array.shape)} for {rows} samples, one row each is needed"
    raise LoadError("DS124", what, where=where, hint=hint)
