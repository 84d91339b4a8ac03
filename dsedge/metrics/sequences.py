"""Sequences of ids: text and speech.

The output holds ids [n, T], in which negative ids are filler, or class scores [n, T, C], of which the highest is taken;
then positions with a negative label do not count. Labels are ids [n, L], in which negative ids are filler.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dsedge.metrics.base import Arrays, Metric, labels_unfit, rise

_LONGEST = 1 << 13


def exact_match(outputs: Arrays, labels: np.ndarray) -> np.ndarray:
    """Whether each sequence is the wanted one, 0 or 100."""
    return np.array([100.0 * np.array_equal(got, wanted) for got, wanted in _sequences("exact", outputs, labels)])


def errors(outputs: Arrays, labels: np.ndarray) -> tuple[int, int]:
    """Insertions, deletions and substitutions that make the wanted sequences of the outputs, and the wanted ids."""
    pairs = list(_sequences("wer", outputs, labels))
    return sum(edit_distance(got, wanted) for got, wanted in pairs), sum(len(wanted) for _, wanted in pairs)


def word_error_rate(parts: list[tuple[int, int]]) -> float:
    """All errors over all wanted ids, in points; it may exceed 100."""
    edits, wanted = (int(sum(column)) for column in zip(*parts, strict=True))
    if not wanted:
        raise labels_unfit("wer needs labels that hold ids")
    return 100.0 * edits / wanted


def edit_distance(a: np.ndarray, b: np.ndarray) -> int:
    """The Levenshtein distance of two sequences (Wagner and Fischer 1974), a row at a time."""
    places = np.arange(len(b) + 1)
    row = places
    for i, element in enumerate(a, 1):
        # Without insertions; an insertion continues the best entry to the left, one more a step.
        steps = np.concatenate([[i], np.minimum(row[1:] + 1, row[:-1] + (b != element))])
        row = np.minimum.accumulate(steps - places) + places
    return int(row[-1])


def _sequences(name: str, outputs: Arrays, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    output = outputs[0]
    scores = output.dtype.kind == "f" and output.ndim == 3
    if labels.dtype.kind not in "iu" or labels.ndim != 2 or len(labels) != len(output):
        raise labels_unfit(f"{name} needs ids [n, length] as labels, these are {labels.dtype} {list(labels.shape)}")
    if max(output.shape[1:2] + labels.shape[1:]) > _LONGEST:
        raise labels_unfit(f"{name} takes sequences of {_LONGEST} ids at most")
    if scores and output.shape[1] == labels.shape[1]:
        for got, wanted in zip(output.argmax(-1), labels, strict=True):
            yield got[wanted >= 0], wanted[wanted >= 0]
    elif output.dtype.kind in "iu" and output.ndim == 2:
        for got, wanted in zip(output, labels, strict=True):
            yield got[got >= 0], wanted[wanted >= 0]
    else:
        what = f"{name} needs ids [n, T] or class scores [n, {labels.shape[1]}, C], the output is {list(output.shape)}"
        raise labels_unfit(what)


METRICS = (Metric("exact", "points", exact_match), Metric("wer", "points", errors, word_error_rate, rise))
