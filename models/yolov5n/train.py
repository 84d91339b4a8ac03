"""Trains YOLOv5n on `scenes` and writes its weights, as float16, to weights.npz beside this file.

Run `python models/yolov5n/train.py`; minutes on one core. One thread and fixed seeds: the same machine writes the same
bytes.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.yolov5n.model import ANCHORS, CLASSES, STRIDES, YOLOv5n
from models.yolov5n.scenes import scenes

WEIGHTS = Path(__file__).resolve().parent / "weights.npz"
SEED = 5
HELD_OUT = 64
SIZE = 320
STEPS = 500
BATCH = 4
CLOSE = 4.0
"""An anchor answers for a box if neither side is more than so many times the other's."""


def targets(labels: Tensor, level: int, size: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """What the sigmoids of a head should be; a box is asked of the cell of its center and of the two nearest ones.

    Args:
        labels: float32 [N, boxes, 5] as of `scenes`.
        level: index of the head.
        size: side of the images in pixels.

    Returns:
        Where an object is asked for, K indices each of image, anchor, row and column; float32 [K, 84]: the targets of
        the box and of the classes.
    """
    stride, anchors = STRIDES[level], torch.tensor(ANCHORS[level], dtype=torch.float32)
    low, high = labels[..., 1:3], labels[..., 3:5]
    ratios = (high - low)[:, :, None] / anchors
    close = (torch.maximum(ratios, 1 / ratios).amax(-1) < CLOSE) & (labels[..., :1] >= 0)
    offsets = ((low + high) / 2 / stride)[..., None] - torch.arange(size // stride)  # [N, boxes, x and y, cells]
    near, at = (offsets > -0.5) & (offsets < 1.5), (offsets >= 0) & (offsets < 1)
    cells = (near[:, :, 1, :, None] & at[:, :, 0, None]) | (at[:, :, 1, :, None] & near[:, :, 0, None])
    image, box, anchor, y, x = (close[..., None, None] & cells[:, :, None]).nonzero(as_tuple=True)

    center = torch.stack([offsets[image, box, 0, x], offsets[image, box, 1, y]], 1)
    side = ratios[image, box, anchor].sqrt() / 2
    classes = F.one_hot(labels[image, box, 0].long(), CLASSES).float()
    return (image, anchor, y, x), torch.cat([(center + 0.5) / 2, side, classes], 1)


def loss(model: YOLOv5n, images: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of every output: objectness everywhere, boxes and classes where an object is."""
    total = torch.zeros(())
    for level, (head, features) in enumerate(zip(model.heads, model.features(images), strict=True)):
        raw = head(features)
        cells = raw.view(len(raw), 3, 5 + CLASSES, *raw.shape[2:]).permute(0, 1, 3, 4, 2)
        where, wanted = targets(labels, level, images.shape[-1])
        there = torch.zeros_like(cells[..., 4])
        there[where] = 1
        found = torch.cat([cells[where][:, :4], cells[where][:, 5:]], 1)
        total = total + F.binary_cross_entropy_with_logits(cells[..., 4], there, reduction="sum")
        total = total + F.binary_cross_entropy_with_logits(found, wanted, reduction="sum")
    return total / len(images)


def train() -> YOLOv5n:
    """Train with AdamW and a one-cycle learning rate; every step sees new crops."""
    model = YOLOv5n(SIZE).train()
    with torch.no_grad():
        for head in model.heads:
            bias = head.get_parameter("bias").view(3, 5 + CLASSES)
            bias[:, 4] = math.log(0.01)
            bias[:, 5:] = math.log(1 / CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=STEPS)
    for step in range(STEPS):
        images, labels = (torch.from_numpy(array) for array in scenes(BATCH, SEED * STEPS + step, SIZE))
        error = loss(model, images, labels)
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == STEPS - 1:
            print(f"step {step + 1:4}/{STEPS}  loss {error.item():.2f}", flush=True)
    return model.eval()


def recall(model: YOLOv5n, images: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
    """Share of the labelled boxes that a prediction of at least 0.25, of that class, overlaps by half or more (IoU)."""
    with torch.inference_mode():
        predictions = model(torch.from_numpy(images)).numpy()
    found = []
    for prediction, label in zip(predictions, labels, strict=True):
        wanted = label[label[:, 0] >= 0]
        center, side, scores = prediction[:, :2], prediction[:, 2:4], prediction[:, 4:5] * prediction[:, 5:]
        low, high = center - side / 2, center + side / 2
        common = np.minimum(high, wanted[:, None, 3:]) - np.maximum(low, wanted[:, None, 1:3])
        shared = common.clip(0).prod(-1)
        union = side.prod(-1) + (wanted[:, 3:] - wanted[:, 1:3]).prod(-1)[:, None] - shared
        found.append(((shared >= union / 2) & (scores[:, wanted[:, 0].astype(int)].T >= 0.25)).any(1))
    return float(np.concatenate(found).mean())


def load(size: int = SIZE) -> YOLOv5n:
    """Return the trained network, for images of a size, in evaluation mode."""
    model = YOLOv5n(size)
    with np.load(WEIGHTS, allow_pickle=False) as archive:
        model.load_state_dict({name: torch.from_numpy(archive[name]).float() for name in archive})
    return model.eval()


def main() -> None:
    """Train, write the weights, and print what the network finds with the weights as written."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    np.savez_compressed(WEIGHTS, **{name: value.half().numpy() for name, value in train().state_dict().items()})
    print(f"recall {recall(load(), *scenes(HELD_OUT, seed=2)):.1%} of the places in {HELD_OUT} other scenes")


if __name__ == "__main__":
    main()
