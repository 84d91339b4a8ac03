"""Segmentation: class scores [n, C, H, W] or [n, H, W, C], or a map of class ids [n, H, W]."""

from __future__ import annotations

import numpy as np

from dsedge.metrics.base import Arrays, Metric, labels_unfit

IGNORED = 255
"""Label of pixels that do not count (the void of Pascal VOC and Cityscapes)."""
_MOST_CLASSES = 4096


def confusion(outputs: Arrays, labels: np.ndarray) -> np.ndarray:
    """Pixels by label and predicted class, [C, C]; for a map of ids C is the largest id that occurs and one."""
    if labels.dtype.kind not in "iu":
        raise labels_unfit(f"miou needs integer labels, these are {labels.dtype}")
    predicted, classes = _class_map(outputs[0], labels)
    counted = labels != IGNORED
    truth, found = labels[counted].astype(np.int64), predicted[counted].astype(np.int64)
    seen = np.concatenate([truth, found])
    last = int(seen.max(initial=0))
    if seen.min(initial=0) < 0 or last >= (classes or _MOST_CLASSES):
        because = f"classes go from {seen.min()} to {last}, the limit is {classes or _MOST_CLASSES}"
        raise labels_unfit("the labels do not fit the output", because)
    size = classes or last + 1
    return np.bincount(truth * size + found, minlength=size**2).reshape(size, size)


def miou(parts: list[np.ndarray]) -> float:
    """Mean over the classes that occur, in labels or predictions, of intersection over union (Pascal VOC)."""
    size = max(len(part) for part in parts)
    total = sum(np.pad(part, (0, size - len(part))) for part in parts)
    both = np.diagonal(total)
    union = np.sum(total, axis=0) + np.sum(total, axis=1) - both
    if not union.any():
        raise labels_unfit(f"miou needs a labelled pixel, all are {IGNORED}")
    return 100.0 * float(np.mean(both[union > 0] / union[union > 0]))


def _class_map(output: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int | None]:
    """The predicted classes in the shape of the labels, and how many there are; None when the output does not say."""
    if output.dtype.kind in "iu" and output.size == labels.size:
        return output.reshape(labels.shape), None
    pixels = labels.shape if labels.ndim == 3 else (len(labels), *labels.shape[2:])  # [n, 1, H, W] is taken too
    for axis in (1, 3):
        if output.ndim == 4 and output.shape[axis] > 1 and (*output.shape[:axis], *output.shape[axis + 1 :]) == pixels:
            return output.argmax(axis).reshape(labels.shape), output.shape[axis]
    what = f"miou needs class scores for each pixel of labels {list(labels.shape)}, the output is {list(output.shape)}"
    raise labels_unfit(what, hint="a single score a pixel has no classes; judge it with a function of your own")


METRICS = (Metric("miou", "points", confusion, miou),)
