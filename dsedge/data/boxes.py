"""Boxes of detection data sets, as they lie beside the images, and as they come out of the letterbox.

In files: for `dog.jpg` a text file `dog.txt` beside it, or in the folder `labels` that stands beside the last folder
`images` of its path (the layout of YOLO data sets). Each line is an object: class, then centre x, centre y, width and
height as fractions of the image, 0 to 1. An image without a file has no objects.

As labels: float64 [M, 5], an object a row: class, then left, top, right and bottom in pixels of the model's input. All
images have as many rows as the fullest one; rows of the class -1 are filler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsedge.data.files import text_lines
from dsedge.errors import LoadError

_MOST_OBJECTS = 10_000
_MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class Letterbox:
    """Where a whole image lies in a frame, keeping its aspect ratio.

    Attributes:
        inner: height and width of the resized image.
        top, left: pixels above it and beside it.
    """

    inner: tuple[int, int]
    top: int
    left: int

    @classmethod
    def of(cls, image: tuple[int, int], frame: tuple[int, int]) -> Letterbox:
        """The letterbox of an image in a frame, both (height, width)."""
        ratio = min(frame[0] / image[0], frame[1] / image[1])
        inner = (
            min(max(round(image[0] * ratio), 1), frame[0]),
            min(max(round(image[1] * ratio), 1), frame[1]),
        )
        return cls(inner, (frame[0] - inner[0]) // 2, (frame[1] - inner[1]) // 2)


def read_boxes(images: Sequence[Path], frame: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The boxes of images, as labels.

    Args:
        images: files.
        frame: height and width of the model's input.
        sizes: height and width of each image.

    Raises:
        LoadError: DS124 when no image has a label file, or a line is not an object.
    """
    files = [next((path for path in _label_paths(image) if path.is_file()), None) for image in images]
    if images and not any(files):
        hint = "each line of dog.txt beside dog.jpg is: class, centre x, centre y, width, height, as fractions"
        raise LoadError("DS124", "no image has a file of boxes", where=str(images[0]), hint=hint)
    found = []
    for file, size in zip(files, sizes, strict=True):
        box = Letterbox.of(size, frame)
        rows = np.asarray(_objects(file) if file else [], np.float64).reshape(-1, 5)
        center, half = rows[:, 1:3], rows[:, 3:5] / 2
        scale, offset = np.array(box.inner[::-1]), np.array([box.left, box.top])
        first, last = ((corner * scale + offset) for corner in (center - half, center + half))
        found.append(np.concatenate([rows[:, :1], first, last], axis=1))
    most = max((len(boxes) for boxes in found), default=0)
    return [np.pad(boxes, ((0, most - len(boxes)), (0, 0)), constant_values=-1) for boxes in found]


def _label_paths(image: Path) -> list[Path]:
    beside = image.with_suffix(".txt")
    parts = list(beside.parts)
    if "images" not in parts[:-1]:
        return [beside]
    last = len(parts) - 1 - parts[::-1].index("images")
    return [beside, Path(*parts[:last], "labels", *parts[last + 1 :])]


def _objects(file: Path) -> list[list[float]]:
    objects: list[list[float]] = []
    for number, text in text_lines(file):
        where = f"{file}, line {number}"
        try:
            values = [float(field) for field in text.split()]
        except ValueError as error:
            raise LoadError("DS124", "the line is no object", where=where, because=str(error)) from error
        fractions = all(0 <= value <= 1 for value in values[1:])
        if len(values) != 5 or not fractions or not 0 <= values[0] < _MOST_CLASSES or not values[0].is_integer():
            because = "it is not a class and four fractions from 0 to 1"
            raise LoadError("DS124", "the line is no object", where=where, because=because)
        if len(objects) == _MOST_OBJECTS:
            raise LoadError("DS124", f"the image has more than {_MOST_OBJECTS} objects", where=where)
        objects.append(values)
    return objects
