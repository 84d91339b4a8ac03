"""How close an artifact's outputs are to the float model's, as `compare_peers.py` reports it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dsedge.bench.runner import sqnr
from dsedge.metrics.detection import nms

Array = npt.NDArray[Any]
Samples = list[dict[str, Array]]
"""Feeds of batch 1."""

CONFIDENCE = 0.25
OVERLAP = 0.5
"""Least score of a detection, and the least intersection over union of two that are taken for the same."""


@dataclass(frozen=True)
class Fidelity:
    """An artifact against the float model.

    Attributes:
        sqnr_db: of each output, or part of one; infinite where identical.
        agreement: shares in 0..1, by what agrees; empty when nothing is counted.
    """

    sqnr_db: dict[str, float]
    agreement: dict[str, float] = field(default_factory=dict)

    @property
    def worst_db(self) -> float:
        """The SQNR of the worst output."""
        return min(self.sqnr_db.values())


Compare = Callable[[Samples, dict[str, list[Array]], dict[str, list[Array]]], Fidelity]
"""From the feeds, and the outputs of the float model and of the artifact by name, an array for each sample."""


def all_outputs(feeds: Samples, reference: dict[str, list[Array]], outputs: dict[str, list[Array]]) -> Fidelity:
    """Every output as it is."""
    return Fidelity({name: _sqnr(reference[name], outputs[name]) for name in reference})


def tokens(feeds: Samples, reference: dict[str, list[Array]], outputs: dict[str, list[Array]]) -> Fidelity:
    """Every output; of those with an axis of tokens, [1, tokens, channels], the tokens that are no padding."""

    def counted(arrays: list[Array]) -> list[Array]:
        if arrays[0].ndim < 3:
            return arrays
        return [array[feed["attention_mask"].astype(bool)] for array, feed in zip(arrays, feeds, strict=True)]

    return Fidelity({name: _sqnr(counted(reference[name]), counted(outputs[name])) for name in reference})


def detections(feeds: Samples, reference: dict[str, list[Array]], outputs: dict[str, list[Array]]) -> Fidelity:
    """One output [1, candidates, 5 + classes]: center x, center y, width, height, objectness, class probabilities.

    SQNR is that of the boxes and of the scores, objectness times class probability. "class" is the share of the
    candidates that score over `CONFIDENCE` in the float model whose best class is the same; "detection" is the share of
    detections, those of both models together, that the other model has after NMS: same class, overlap over `OVERLAP`.
    """
    (name,) = reference
    expected, got = (np.concatenate(arrays[name]) for arrays in (reference, outputs))
    scores, other_scores = (rows[..., 4:5] * rows[..., 5:] for rows in (expected, got))
    confident = scores.max(-1) > CONFIDENCE
    same = scores.argmax(-1)[confident] == other_scores.argmax(-1)[confident]
    pairs = [(_detect(mine), _detect(other)) for mine, other in zip(expected, got, strict=True)]
    found = sum(len(mine[0]) + len(other[0]) for mine, other in pairs)
    shared = sum(_matches(mine, other) for mine, other in pairs)
    return Fidelity(
        {"boxes": _sqnr([expected[..., :4]], [got[..., :4]]), "scores": _sqnr([scores], [other_scores])},
        {"class": float(same.mean()), "detection": 2 * shared / found},
    )


def _sqnr(reference: Sequence[Array], outputs: Sequence[Array]) -> float:
    expected, got = (np.concatenate([array.ravel() for array in arrays]) for arrays in (reference, outputs))
    ratio = sqnr(expected, got)
    return float("inf") if ratio is None else float(ratio)


def _detect(rows: Array) -> tuple[Array, Array]:
    """Boxes [k, 4] as left, top, right, bottom, and classes [k], of an image's candidates after NMS."""
    scores = rows[:, 4:5] * rows[:, 5:]
    kept = scores.max(-1) > CONFIDENCE
    center, half = rows[kept, :2], rows[kept, 2:4] / 2
    boxes, classes = np.concatenate([center - half, center + half], 1), scores[kept].argmax(-1)
    best = nms(boxes, scores[kept].max(-1), classes)
    return boxes[best], classes[best]


def _matches(mine: tuple[Array, Array], other: tuple[Array, Array]) -> int:
    """How many detections, best score first, find one of their own in the other list."""
    free, count = np.ones(len(other[0]), bool), 0
    for box, kind in zip(*mine, strict=True):
        overlap = np.where(free & (other[1] == kind), _iou(box, other[0]), 0.0)
        if overlap.size and overlap.max() > OVERLAP:
            free[overlap.argmax()] = False
            count += 1
    return count


def _iou(box: Array, others: Array) -> Array:
    inner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(inner, 0), axis=1)
    area: Array = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(shared / (area - shared))
