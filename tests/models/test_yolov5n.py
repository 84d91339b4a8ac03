"""The detector: what it is trained towards is what its decode gives back, its scenes, NonMaxSuppression."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from onnx import parser  # noqa: E402

from models.yolov5n.model import YOLOv5n  # noqa: E402
from models.yolov5n.nms import append_nms  # noqa: E402
from models.yolov5n.scenes import GRAY, places, scenes  # noqa: E402
from models.yolov5n.train import load, recall, targets  # noqa: E402


def test_decoded_targets_are_the_labelled_boxes() -> None:
    labels = torch.from_numpy(scenes(1, 3)[1])[0, :12, None]  # one box an image: two may ask for the same cell
    assert (labels[..., 0] >= 0).all()
    model, asked = YOLOv5n(), 0
    for level, cells in enumerate((40, 20, 10)):
        (image, anchor, y, x), wanted = targets(labels, level, 320)
        raw = torch.zeros(12, 3, 85, cells, cells)
        raw[image, anchor, :4, y, x] = torch.logit(wanted[:, :4])
        decoded = model.decode(raw.view(12, 255, cells, cells), level).view(12, 3, cells, cells, 85)
        boxes, (classes, low, high) = decoded[image, anchor, y, x, :4], labels[image, 0].split((1, 2, 2), 1)
        torch.testing.assert_close(boxes, torch.cat([(low + high) / 2, high - low], 1), atol=2e-3, rtol=1e-4)
        assert (wanted[:, 4:].argmax(1) == classes[:, 0]).all()
        asked += len(boxes)
    assert asked > 60


def test_scenes_repeat_and_label_what_is_there() -> None:
    images, labels = scenes(4, 1)
    again, other = scenes(4, 1)[0], scenes(4, 2)[0]
    assert images.tobytes() == again.tobytes() != other.tobytes()
    assert images.min() >= 0
    assert images.max() <= 1
    there = labels[labels[..., 0] >= 0]
    assert len(there) > 20
    assert there[:, 1:].min() >= 0
    assert there[:, 1:].max() <= 320
    assert (there[:, 3:] > there[:, 1:3]).all()
    assert places().shape == (2, 40, 4)


def test_a_photograph_smaller_than_the_scene_is_centered() -> None:
    images, labels = scenes(1, 0, size=640)
    assert (images[0, :, :106] == np.float32(GRAY)).all()
    assert (images[0, :, 534:] == np.float32(GRAY)).all()
    assert (labels[0, :, 0] >= 0).all()  # all 40 places of the photograph
    assert labels[0, :, [2, 4]].min() >= 106
    assert labels[0, :, [2, 4]].max() <= 534


def test_nms_keeps_the_best_of_overlapping_boxes_of_a_class() -> None:
    detector = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]>'
        "detector (float[1, n, 85] image) => (float[1, n, 85] predictions) { predictions = Identity(image) }"
    )
    model = append_nms(detector)
    onnx.checker.check_model(model, full_check=True)
    predictions = np.zeros((1, 4, 85), np.float32)
    predictions[0, :, :4] = [[50, 50, 20, 20], [52, 50, 20, 20], [52, 50, 20, 20], [90, 90, 10, 10]]
    predictions[0, :, 4] = [0.9, 0.8, 0.8, 0.2]
    predictions[0, [0, 1, 2, 3], [5 + 7, 5 + 7, 5 + 9, 5 + 7]] = 1
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    boxes, scores, classes = session.run(["boxes", "scores", "classes"], {"image": predictions})
    np.testing.assert_array_equal(classes, [7, 9])
    np.testing.assert_allclose(scores, [0.9, 0.8])
    np.testing.assert_array_equal(boxes, predictions[0, [0, 2], :4])
    none = session.run(["boxes", "scores", "classes"], {"image": np.zeros_like(predictions)})
    assert [output.shape for output in none] == [(0, 4), (0,), (0,)]


def test_a_size_that_the_strides_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        YOLOv5n(300)


def test_shipped_weights_find_the_places() -> None:
    torch.set_num_threads(1)
    assert recall(load(), *scenes(8, seed=2)) > 0.85
