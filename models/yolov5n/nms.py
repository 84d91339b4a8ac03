"""Non-maximum suppression in the graph, behind the decode."""

from __future__ import annotations

import onnx
from onnx import compose, parser

TAIL = """
<ir_version: 10, opset_import: ["": 20]>
suppress (float[1, candidates, 85] all_predictions)
    => (float[detections, 4] boxes, float[detections] scores, int64[detections] classes)
<int64[2] split_box = {4, 81}, int64[2] split_scores = {1, 80}, int64[1] per_class = {100}, float[1] overlap = {0.45},
 float[1] confidence = {0.25}, int64[1] first = {0}, int64[1] class_column = {1}, int64[1] box_column = {2},
 int64[1] end = {3}, int64[1] axis = {1}>
{
    all_boxes, rest = Split <axis = 2> (all_predictions, split_box)
    objectness, given = Split <axis = 2> (rest, split_scores)
    by_candidate = Mul(objectness, given)
    by_class = Transpose <perm = [0, 2, 1]> (by_candidate)
    selected = NonMaxSuppression <center_point_box = 1> (all_boxes, by_class, per_class, overlap, confidence)
    scores = GatherND(by_class, selected)
    class_2d = Slice(selected, class_column, box_column, axis)
    classes = Squeeze(class_2d, axis)
    box_2d = Slice(selected, box_column, end, axis)
    flat_boxes = Squeeze(all_boxes, first)
    boxes = GatherND(flat_boxes, box_2d)
}
"""


def append_nms(detector: onnx.ModelProto) -> onnx.ModelProto:
    """Return the detector with NonMaxSuppression (per class, overlap 0.45, confidence 0.25) after `predictions`.

    Outputs, of a length that depends on the image: `boxes` float32 [detections, 4] (center, width and height in
    pixels), `scores` float32 [detections] (objectness times class probability), `classes` int64 [detections].
    """
    tail = parser.parse_model(TAIL)
    tail.ir_version = detector.ir_version
    return compose.merge_models(detector, tail, io_map=[("predictions", "all_predictions")])
