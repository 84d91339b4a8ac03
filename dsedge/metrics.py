"""Metrics of accuracy, computed on the first output of a model over labelled data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dsedge.data import Data, Feeds
from dsedge.errors import LoadError, did_you_mean

MAX_BATCH = 32


@dataclass(frozen=True)
class Metric:
    """How good outputs are.

    Attributes:
        name: what the user calls it.
        fn: from the first output [N, ...] and the labels [N, ...] to a number.
        higher_is_better: which way is good.
        unit: of the number; "points" are 0 to 100.
        mean: whether the value over all samples is the mean of those over batches; if not, all outputs are kept.
    """

    name: str
    fn: Callable[[np.ndarray, np.ndarray], float]
    higher_is_better: bool
    unit: str
    mean: bool = True


def find_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        LoadError: DS125 when there is none.
    """
    if name not in METRICS:
        raise LoadError("DS125", f"no metric is called {name!r}", hint=did_you_mean(name, METRICS))
    return METRICS[name]


def evaluate(predict: Callable[[Feeds], list[np.ndarray]], data: Data, metric: Metric) -> tuple[float, int]:
    """Runs a model over labelled data, batch by batch.

    Args:
        predict: from feeds to all outputs, of which the first is judged.
        data: opened with `labelled=True`.
        metric: what to compute.

    Returns:
        The value, NaN when an output holds NaN (which passes no gate), and how many samples it stands for.

    Raises:
        LoadError: DS124 when labels are missing, or do not fit the outputs or the metric.
    """
    total, samples, defined = 0.0, 0, True
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for batch in data.batches(MAX_BATCH):
        if batch.labels is None:
            raise LoadError("DS124", f"{metric.name} needs labels", where=data.source)
        output = _per_sample(np.asarray(predict(batch.feeds)[0]), batch.count, batch.padding, data.source)
        defined = defined and not (output.dtype.kind == "f" and np.isnan(output).any())
        samples += batch.count
        if metric.mean:
            total += metric.fn(output, batch.labels) * batch.count
        else:
            kept.append((output, batch.labels))
    if not defined:
        return float("nan"), samples
    if metric.mean:
        return total / samples, samples
    outputs, labels = (np.concatenate(arrays) for arrays in zip(*kept, strict=True))
    return metric.fn(outputs, labels), samples


def drop(metric: Metric, float_value: float, quantized_value: float) -> float:
    """How much worse the quantized value is, in the metric's unit; negative when it is better."""
    return float_value - quantized_value if metric.higher_is_better else quantized_value - float_value


def _per_sample(output: np.ndarray, count: int, padding: int, where: str) -> np.ndarray:
    """The output [count, ...] without the rows of padding; a model without a batch axis gets one."""
    if output.ndim and len(output) == count + padding:
        return output[:count]
    if count == 1 and not padding:
        return output[None]
    what = f"the first output has the shape {list(output.shape)} for {count + padding} samples, one row each is needed"
    raise LoadError("DS124", what, where=where)


def _top(k: int) -> Callable[[np.ndarray, np.ndarray], float]:
    def points(outputs: np.ndarray, labels: np.ndarray) -> float:
        if labels.dtype.kind not in "iu":
            raise LoadError("DS124", f"top{k} needs integer labels, these are {labels.dtype}")
        if k == 1 and outputs.dtype.kind in "iu" and outputs.size == labels.size:
            return 100.0 * float(np.mean(outputs.reshape(-1) == labels.reshape(-1)))
        scores = outputs.reshape(-1, outputs.shape[-1])
        if len(scores) != labels.size:
            raise LoadError("DS124", f"{labels.size} labels for {len(scores)} rows of classes")
        classes, wanted = scores.shape[1], labels.reshape(-1, 1)
        if wanted.min() < 0 or wanted.max() >= classes:
            because = f"labels go from {wanted.min()} to {wanted.max()}, the output has {classes} classes"
            raise LoadError("DS124", "the labels do not fit the output", because=because)
        # The place of the wanted class; of equal scores the lower class index comes first, as in argmax.
        score = np.take_along_axis(scores, wanted.astype(np.intp), axis=1)
        ahead = (scores > score) | ((scores == score) & (np.arange(classes) < wanted))
        return 100.0 * float(np.mean(ahead.sum(axis=1) < k))

    return points


def _auc(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic (Hanley and McNeil 1982); equal scores count half."""
    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    if rows.shape[1] not in (1, 2):
        raise LoadError("DS124", f"auc needs one score or two classes a sample, the output is {list(outputs.shape)}")
    # The difference orders samples as the probability of class 1 does, for probabilities and for logits.
    scores = rows[:, -1] - rows[:, 0] if rows.shape[1] == 2 else rows[:, 0]
    positive = labels.reshape(-1) == 1
    if labels.size != len(scores) or not np.isin(labels, (0, 1)).all() or positive.all() or not positive.any():
        raise LoadError("DS124", "auc needs one label a sample, 0 or 1, and both must occur")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    ones = int(positive.sum())
    area = (ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(scores) - ones))
    return 100.0 * float(area)


def _mae(outputs: np.ndarray, labels: np.ndarray) -> float:
    if outputs.size != labels.size or labels.dtype.kind not in "fiub":
        raise LoadError(
            "DS124", f"mae needs a number for each of {outputs.size} outputs, there are {labels.size} labels"
        )
    return float(np.mean(np.abs(outputs.astype(np.float64).reshape(-1) - labels.reshape(-1))))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("top1", _top(1), higher_is_better=True, unit="points"),
        Metric("top5", _top(5), higher_is_better=True, unit="points"),
        Metric("auc", _auc, higher_is_better=True, unit="points", mean=False),
        Metric("mae", _mae, higher_is_better=False, unit="output units"),
    )
}
