"""Ranking: one score a sample in the first output, ordered over all samples."""

from __future__ import annotations

import numpy as np

from dsedge.metrics.base import Metric, both, joined, labels_unfit


def auc(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic (Hanley and McNeil 1982); equal scores count half.

    The output holds a score [n], or scores of two classes [n, 2]; labels are 0 or 1.
    """
    outputs, labels = joined(parts)
    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    if rows.shape[1] not in (1, 2):
        raise labels_unfit(f"auc needs one score or two classes a sample, the output is {list(outputs.shape)}")
    # The difference orders samples as the probability of class 1 does, for probabilities and for logits.
    scores = rows[:, -1] - rows[:, 0] if rows.shape[1] == 2 else rows[:, 0]
    positive = labels.reshape(-1) == 1
    if labels.size != len(scores) or not np.isin(labels, (0, 1)).all() or positive.all() or not positive.any():
        raise labels_unfit("auc needs one label a sample, 0 or 1, and both must occur")
    ones = int(positive.sum())
    area = (_ranks(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * (len(scores) - ones))
    return 100.0 * float(area)


def spearman(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Spearman's rank correlation of the scores with the labels; equal values share their mean rank.

    Scores that are all equal order nothing, which counts as 0.
    """
    outputs, labels = joined(parts)
    if outputs.size != len(outputs) or labels.size != len(outputs) or labels.dtype.kind not in "fiub":
        raise labels_unfit(f"spearman needs a score and a number a sample, the output is {list(outputs.shape)}")
    wanted = _ranks(labels.reshape(-1))
    got = _ranks(outputs.reshape(-1))
    if wanted.min() == wanted.max():
        raise labels_unfit("spearman needs labels that differ")
    if got.min() == got.max():
        return 0.0
    return 100.0 * float(np.corrcoef(got, wanted)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


METRICS = (Metric("auc", "points", both, auc), Metric("spearman", "points", both, spearman))
