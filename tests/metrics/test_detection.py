"""mAP against pycocotools fed by hand, and its NMS against the definition."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dsedge.errors import LoadError
from dsedge.metrics import METRICS
from dsedge.metrics.detection import NMS_IOU, nms

IMAGES, CLASSES = 6, 3


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Left, top, right, bottom."""
    corner = rng.uniform(0, 200, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(20, 100, (count, 2))], axis=1)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels [n, M, 5] with filler, and detections: boxes, scores, classes."""
    rng = np.random.default_rng(0)
    labels = np.full((IMAGES, 5, 5), -1.0)
    found = np.zeros((IMAGES, 12, 4))
    for i in range(IMAGES):
        count = i % 5
        labels[i, :count, 0] = rng.integers(0, CLASSES, count)
        labels[i, :count, 1:] = boxes(rng, count)
        found[i] = boxes(rng, 12)
        found[i, :count] = labels[i, :count, 1:] + rng.standard_normal((count, 4)) * 4
    scores = rng.uniform(0.1, 0.9, (IMAGES, 12))
    classes = rng.integers(0, CLASSES, (IMAGES, 12))
    classes[:, :5] = np.where(labels[:, :, 0] >= 0, labels[:, :, 0], classes[:, :5])
    return labels, found, scores, classes


def by_coco(
    tmp_path: Path, labels: np.ndarray, found: np.ndarray, scores: np.ndarray, classes: np.ndarray
) -> list[float]:
    """mAP and mAP50 through COCO's own file format."""

    def xywh(box: np.ndarray) -> list[float]:
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    truth, results = [], []
    for i in range(len(labels)):
        for row in labels[i][labels[i, :, 0] >= 0]:
            box = xywh(row[1:])
            item = {"image_id": i, "category_id": int(row[0]), "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            truth.append({"id": len(truth) + 1, **item})
        results += [
            {"image_id": i, "category_id": int(c), "bbox": xywh(b), "score": float(s)}
            for b, s, c in zip(found[i], scores[i], classes[i], strict=True)
        ]
    dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(labels))],
        "categories": [{"id": c} for c in range(CLASSES)],
        "annotations": truth,
    }
    (tmp_path / "truth.json").write_text(json.dumps(dataset))
    (tmp_path / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * float(x) for x in evaluation.stats[:2]]


def value(name: str, outputs: list[np.ndarray], labels: np.ndarray, batches: int = 1) -> float:
    metric = METRICS[name]
    parts = zip(*(np.array_split(array, batches) for array in (labels, *outputs)), strict=True)
    return metric.total([metric.partial(list(part), label) for label, *part in parts])


def test_separate_outputs_are_judged_as_coco_does(tmp_path: Path) -> None:
    labels, found, scores, classes = scene()
    expected = by_coco(tmp_path, labels, found, scores, classes)
    assert 10 < expected[0] < expected[1] < 90, "a scene that can tell"
    for outputs in (
        [found, scores, classes],
        [classes, scores, found],
        [found.astype(np.float32), scores.astype(np.float32), classes.astype(np.float32)],
    ):
        got = [value(name, outputs, labels, batches=4) for name in ("map", "map50")]
        assert got == pytest.approx(expected, abs=1e-3)


def test_a_yolo_output_gives_what_its_boxes_give_after_nms() -> None:
    labels, found, scores, classes = scene()
    raw = np.zeros((IMAGES, 24, 5 + CLASSES))
    raw[:, :12, :2], raw[:, :12, 2:4] = (found[..., :2] + found[..., 2:]) / 2, found[..., 2:] - found[..., :2]
    raw[:, :12, 4] = 0.9
    np.put_along_axis(raw[:, :12, 5:], classes[..., None], scores[..., None] / 0.9, axis=2)
    raw[:, 12:] = raw[:, :12]
    raw[:, 12:, 4] = 0.8  # the same again, worse: NMS takes them
    expected = value("map", [found, scores, classes], labels)
    assert value("map", [raw], labels, batches=2) == pytest.approx(expected, abs=1.0), "NMS takes some of the noise too"
    later = np.concatenate([raw[..., :4], raw[..., 4:5] * raw[..., 5:]], axis=2).transpose(0, 2, 1)
    assert value("map", [later], labels) == pytest.approx(value("map", [raw], labels))
    two = [found, np.eye(CLASSES)[classes] * scores[..., None]]
    assert value("map", two, labels) == pytest.approx(value("map", [raw], labels))


def test_perfect_and_empty() -> None:
    labels, *_ = scene()
    filler = labels[..., 0] < 0
    boxes_, scores = labels[..., 1:], np.where(filler, 0.0, 0.9)
    classes = labels[..., 0].astype(int)
    assert value("map", [boxes_, scores, classes], labels) == pytest.approx(100.0)
    nothing = [np.zeros((IMAGES, 0, 4)), np.zeros((IMAGES, 0)), np.zeros((IMAGES, 0), int)]
    assert value("map50", nothing, labels) == 0.0
    assert value("map", [np.zeros((IMAGES, 30, 8))], labels) == 0.0
    one = [boxes_[4:5, 0], scores[4:5, 0], classes[4:5, 0]]  # one box, as a model without a batch axis gives it
    assert 0 < value("map", one, labels[4:5]) < 100


def test_outputs_that_do_not_fit() -> None:
    labels, found, scores, classes = scene()
    for outputs in (
        [found, scores, classes, classes],
        [found, found, scores],
        [found, scores[:, :7], classes],
        [np.concatenate([found, scores[..., None]], axis=2)],
        [scores],
    ):
        with pytest.raises(LoadError, match=r"DS124.*map"):
            value("map", outputs, labels)


def test_nms_keeps_what_no_better_box_of_its_class_overlaps() -> None:
    rng = np.random.default_rng(1)
    found, scores, classes = boxes(rng, 80) / [4, 4, 1, 1], rng.uniform(0, 1, 80), rng.integers(0, 2, 80)

    def iou(a: np.ndarray, b: np.ndarray) -> float:
        width, height = (max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), 0) for i in (0, 1))
        area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
        return float(width * height / (area - width * height))

    expected: list[int] = []
    for i in np.argsort(-scores):
        if all(classes[i] != classes[k] or iou(found[i], found[k]) <= NMS_IOU for k in expected):
            expected.append(int(i))
    assert nms(found, scores, classes).tolist() == expected
    assert len(expected) < 70
