"""Classification: the first output holds class scores [n, ..., C] or class ids [n, ...]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dsedge.metrics.base import Arrays, Metric, class_scores, labels_unfit


def top(k: int) -> Callable[[Arrays, np.ndarray], np.ndarray]:
    """Share of samples whose class is among the `k` with the highest scores; of equal scores the lower class wins."""

    def points(outputs: Arrays, labels: np.ndarray) -> np.ndarray:
        scores = outputs[0]
        if labels.dtype.kind not in "iu":
            raise labels_unfit(f"top{k} needs integer labels, these are {labels.dtype}")
        if k == 1 and scores.dtype.kind in "iu" and scores.size == labels.size:
            return np.where(scores.reshape(-1) == labels.reshape(-1), 100.0, 0.0)
        scores = class_scores(scores)
        rows = scores.reshape(-1, scores.shape[-1])
        if len(rows) != labels.size:
            raise labels_unfit(f"{labels.size} labels for {len(rows)} rows of classes")
        classes, wanted = rows.shape[1], labels.reshape(-1, 1)
        if wanted.min() < 0 or wanted.max() >= classes:
            because = f"labels go from {wanted.min()} to {wanted.max()}, the output has {classes} classes"
            raise labels_unfit("the labels do not fit the output", because)
        # The place of the wanted class; of equal scores the lower class index comes first, as in argmax.
        score = np.take_along_axis(rows, wanted.astype(np.intp), axis=1)
        ahead = (rows > score) | ((rows == score) & (np.arange(classes) < wanted))
        return np.where(ahead.sum(axis=1) < k, 100.0, 0.0)

    return points


METRICS = (Metric("top1", "points", top(1)), Metric("top5", "points", top(5)))
