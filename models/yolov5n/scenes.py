"""Labelled scenes for the detector: 80 places in scikit-learn's two sample photographs, seen through random crops."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

from models.yolov5n.model import CLASSES

PLACES_SEED = 80
GRAY = 114 / 255
"""What lies around a photograph that is smaller than the scene."""


@cache
def places() -> NDArray[np.float32]:
    """Draw the boxes that are to be found, 40 in each photograph; the class is the index.

    Returns:
        float32 [2, 40, 4]: left, top, right, bottom in the photograph, in pixels. Sides are log-uniform in 24 to 160.
    """
    rng = np.random.default_rng(PLACES_SEED)
    boxes = []
    for photo in load_sample_images().images:
        bounds = np.array(photo.shape[1::-1])
        sides = np.exp(rng.uniform(np.log(24), np.log(160), (CLASSES // 2, 2)))
        corner = rng.uniform(0, 1, sides.shape) * (bounds - sides)
        boxes.append(np.concatenate([corner, corner + sides], 1))
    return np.array(boxes, np.float32)


def scenes(count: int, seed: int, size: int = 320) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut random crops, half of them mirrored, of random brightness; a photograph that is too small is centered.

    Returns:
        Images float32 [count, 3, size, size], RGB in 0..1, and labels float32 [count, 40, 5]: the class and the box as
        left, top, right, bottom in pixels, cut at the scene's edge. A place of which less than half is in the scene is
        left out; rows that are left over have class -1.
    """
    photos = load_sample_images().images
    rng = np.random.default_rng(seed)
    images = np.full((count, 3, size, size), GRAY, np.float32)
    labels = np.full((count, CLASSES // 2, 5), -1, np.float32)
    for image, label in zip(images, labels, strict=True):
        index = rng.integers(len(photos))
        extent = np.minimum(photos[index].shape[:2], size)  # height, width
        start = rng.integers(photos[index].shape[:2] - extent + 1)
        offset = (size - extent) // 2
        (top, left), (bottom, right) = start, start + extent
        pixels = photos[index][top:bottom, left:right].transpose(2, 0, 1) / np.float32(255)
        rows, columns = (slice(o, o + e) for o, e in zip(offset, extent, strict=True))
        image[:, rows, columns] = pixels ** np.float32(np.exp(rng.uniform(-0.3, 0.3)))

        inside = places()[index] - np.tile(start[::-1] - offset[::-1], 2)
        cut = np.clip(inside, np.tile(offset[::-1], 2), np.tile((offset + extent)[::-1], 2))
        kept = np.flatnonzero(_area(cut) >= _area(inside) / 2)
        if rng.integers(2):
            image[:] = image[:, :, ::-1].copy()
            cut[:, [0, 2]] = size - cut[:, [2, 0]]
        label[: len(kept), 0] = kept + index * (CLASSES // 2)
        label[: len(kept), 1:] = cut[kept]
    return images, labels


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area
