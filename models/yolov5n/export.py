"""Writes YOLOv5n as ONNX: `python models/yolov5n/export.py yolov5n.onnx`.

`--size 640` for another input size than 320, `--nms` for NonMaxSuppression in the graph.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.untrained import export
from models.yolov5n.nms import append_nms
from models.yolov5n.scenes import scenes
from models.yolov5n.train import SIZE, load


def samples(count: int, seed: int, size: int = SIZE) -> NDArray[np.float32]:
    """Images of `scenes`, float32 [count, 3, size, size] in 0..1."""
    return scenes(count, seed, size)[0]


def main() -> None:
    """Export to the path that is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the ONNX file to write")
    parser.add_argument("--size", type=int, default=SIZE, help="side of the images, a multiple of 32; default: 320")
    parser.add_argument("--nms", action="store_true", help="outputs boxes, scores and classes of the detections")
    arguments = parser.parse_args()
    sized = partial(samples, size=arguments.size)
    export(load(arguments.size), sized, arguments.path, "image", "predictions")
    if arguments.nms:
        onnx.save(append_nms(onnx.load(arguments.path)), arguments.path)


if __name__ == "__main__":
    main()
