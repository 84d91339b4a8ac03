"""Detection: mean average precision as COCO defines it, computed by pycocotools.

Predictions are one of
    one output [n, K, 5 + C]: centre x, centre y, width, height, objectness, class scores (YOLOv3 to v7 before NMS);
    one output [n, 4 + C, K], K the longer axis: the same without objectness (YOLOv8 and later);
    boxes [n, K, 4] and class scores [n, K, C], before NMS;
    boxes [n, K, 4], scores [n, K] and class ids [n, K], after NMS; when no output is of integers, in this order.
Boxes that are outputs of their own are left, top, right, bottom. The outputs are told apart by their shapes. Before NMS
the score of a class is its own times the objectness; candidates over 0.001, the best 3000 an image, go through a greedy
NMS for each class at an IoU of 0.6.

Labels are [n, M, 5]: class, left, top, right, bottom; rows of a negative class are filler. Outputs and labels are in
one unit, the pixels of the model's input.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from dsedge.errors import BuildError
from dsedge.metrics.base import Arrays, Metric, labels_unfit

LEAST_SCORE, NMS_IOU = 0.001, 0.6
MOST_CANDIDATES, MOST_DETECTIONS = 3000, 100

Part = list[tuple[np.ndarray, np.ndarray]]
"""For each image its detections [k, 6], (class, left, top, right, bottom, score), and its objects [m, 5]."""


def detections(outputs: Arrays, labels: np.ndarray) -> Part:
    """What the model found and what there is, image by image."""
    _cocoeval()
    if labels.ndim != 3 or labels.shape[2] != 5 or labels.dtype.kind not in "fiu":
        what = f"map needs labels [n, M, 5] (class, left, top, right, bottom), these are {list(labels.shape)}"
        raise labels_unfit(what)
    found = _found(outputs, len(labels))
    return [(image, objects[objects[:, 0] >= 0]) for image, objects in zip(found, labels, strict=True)]


def average_precision(stat: int) -> Callable[[list[Part]], float]:
    """A figure of COCO's summary, in points: 0 is the mean over IoU .50 to .95, 1 is at IoU .50."""

    def total(parts: list[Part]) -> float:
        images = [image for part in parts for image in part]
        if not any(len(objects) for _, objects in images):
            raise labels_unfit("map needs labels that hold objects")
        if not any(len(found) for found, _ in images):
            return 0.0
        coco, coco_eval = _cocoeval()
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            truth = coco()
            truth.dataset = _truth(images)
            truth.createIndex()
            evaluation = coco_eval(truth, truth.loadRes(_results(images)), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return 100.0 * float(evaluation.stats[stat])

    return total


def nms(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Indices of the detections that stay, the best first: a box goes when a better one of its class overlaps it.

    Args:
        boxes: [k, 4], left, top, right, bottom.
        scores: [k].
        classes: [k].
    """
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    kept: list[int] = []
    while len(order) and len(kept) < MOST_DETECTIONS:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[(classes[order] != classes[best]) | (_iou(boxes[best], boxes[order]) <= NMS_IOU)]
    return np.array(kept, np.intp)


def _found(outputs: Arrays, count: int) -> list[np.ndarray]:
    """The detections of each image, [k, 6]."""
    first = outputs[0].shape
    if len(outputs) == 1 and len(first) == 3 and (first[1] >= first[2] > 5 or first[2] > first[1] > 4):
        return [_yolo(image) for image in outputs[0]]
    boxed = [output for output in outputs if output.ndim >= 2 and output.shape[-1] == 4]
    if len(boxed) != 1 or len(outputs) not in (2, 3):
        shapes = ", ".join(str(list(output.shape)) for output in outputs)
        hint = "boxes [n, K, 4] go with scores [n, K, C], or with scores and classes [n, K]; YOLO has one output"
        raise labels_unfit(f"map cannot tell boxes and scores apart, the outputs are {shapes}", hint=hint)
    boxes = boxed[0].reshape(count, -1, 4).astype(np.float64)
    others = [_each_box(output, *boxes.shape[:2]) for output in outputs if output is not boxed[0]]
    if len(others) == 1:
        return [_suppressed(b, s) for b, s in zip(boxes, others[0], strict=True)]
    if any(other.shape[2] != 1 for other in others):
        raise labels_unfit(f"map needs a score and a class for each of {boxes.shape[1]} boxes")
    scores, classes = others[::-1] if others[0].dtype.kind in "iu" else others
    return list(np.concatenate([classes, boxes, scores], axis=2))


def _yolo(raw: np.ndarray) -> np.ndarray:
    """The detections [k, 6] of an image out of [K, 5 + C] or [4 + C, K]."""
    if raw.shape[0] >= raw.shape[1]:
        place, scores = raw[:, :4].astype(np.float64), raw[:, 4:5] * raw[:, 5:]
    else:
        place, scores = raw[:4].T.astype(np.float64), raw[4:].T
    center, half = place[:, :2], place[:, 2:] / 2
    return _suppressed(np.concatenate([center - half, center + half], axis=1), scores)


def _each_box(output: np.ndarray, count: int, boxes: int) -> np.ndarray:
    """An output as [n, K, numbers of a box]."""
    width = output.size // (count * boxes) if boxes else 1
    if not width or output.size != count * boxes * width:
        raise labels_unfit(f"map needs a score and a class for each of {boxes} boxes, one is {list(output.shape)}")
    return output.reshape(count, boxes, width)


def _suppressed(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The detections [k, 6] of an image out of boxes [K, 4] and class scores [K, C]."""
    box, kind = np.nonzero(scores > LEAST_SCORE)
    best = scores[box, kind]
    keep = nms(boxes[box], best, kind)
    return np.concatenate([kind[keep, None], boxes[box[keep]], best[keep, None]], axis=1)


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    inner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(inner, 0).prod(axis=1)
    areas = [np.maximum(b[..., 2:] - b[..., :2], 0).prod(axis=-1) for b in (box, others)]
    overlap: np.ndarray = shared / np.maximum(areas[0] + areas[1] - shared, np.finfo(np.float64).tiny)
    return overlap


def _truth(images: Part) -> dict[str, Any]:
    objects = [(i, row) for i, (_, rows) in enumerate(images) for row in rows.tolist()]
    annotations = [
        {
            "id": number,  # from 1: pycocotools takes 0 for no match
            "image_id": i,
            "category_id": int(row[0]),
            "bbox": [row[1], row[2], row[3] - row[1], row[4] - row[2]],
            "area": (row[3] - row[1]) * (row[4] - row[2]),
            "iscrowd": 0,
        }
        for number, (i, row) in enumerate(objects, 1)
    ]
    classes = sorted({int(row[0]) for _, row in objects})
    return {
        "info": {},
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": c} for c in classes],
        "annotations": annotations,
    }


def _results(images: Part) -> list[dict[str, Any]]:
    return [
        {
            "image_id": i,
            "category_id": int(row[0]),
            "bbox": [row[1], row[2], row[3] - row[1], row[4] - row[2]],
            "score": row[5],
        }
        for i, (found, _) in enumerate(images)
        for row in found.tolist()
    ]


def _cocoeval() -> tuple[Any, Any]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise BuildError("DS402", "map needs pycocotools", hint="pip install 'dsedge[metrics]'") from error
    return COCO, COCOeval


METRICS = (
    Metric("map", "points", detections, average_precision(0), output=None),
    Metric("map50", "points", detections, average_precision(1), output=None),
)
