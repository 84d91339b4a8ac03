"""Trains digits_cnn and writes digits_cnn.onnx, calibration.npz and evaluation.npz beside this file.

Run `python models/digits_cnn/train.py`. One thread and fixed seeds: the same machine writes the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.digits_cnn.model import DigitsCNN
from models.export import export_onnx

HERE = Path(__file__).resolve().parent
SEED = 7
EVALUATION = 500
CALIBRATION = 256
EPOCHS = 30
BATCH = 64


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Load and shuffle the data set: training images and labels, then evaluation images and labels.

    Images are float32 [N, 1, 8, 8] in 0..1, labels int64 [N].
    """
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    images = (digits.images[order, None] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    return images[EVALUATION:], labels[EVALUATION:], images[:EVALUATION], labels[:EVALUATION]


def augment(images: torch.Tensor) -> torch.Tensor:
    """Rotate by up to 10 degrees, scale by up to 10 %, shift by up to a pixel, each image by its own draw."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * 10 * torch.pi / 180
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.1
    shift = (torch.rand(count, 2) * 2 - 1) * 2 / images.shape[-1]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    affine = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(count, 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train(images: torch.Tensor, labels: torch.Tensor) -> DigitsCNN:
    """Train a network with AdamW and a one-cycle learning rate."""
    model = DigitsCNN().train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(images))[: steps * BATCH].view(steps, BATCH):
            loss = F.cross_entropy(model(augment(images[batch])), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:2}/{EPOCHS}  loss {total / steps:.4f}")
    return model


def main() -> None:
    """Train, export, write the data, and print the exported model's accuracy."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_images, train_labels, images, labels = split()
    model = train(torch.from_numpy(train_images), torch.from_numpy(train_labels))

    path = HERE / "digits_cnn.onnx"
    example = torch.from_numpy(images[:16])
    export_onnx(
        model, [example], path, input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "batch"}}
    )
    np.savez_compressed(HERE / "calibration.npz", image=train_images[:CALIBRATION])
    np.savez_compressed(HERE / "evaluation.npz", image=images, labels=labels)

    (logits,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": images})
    correct = int((logits.argmax(1) == labels).sum())
    print(f"top-1 accuracy {correct / len(labels):.3%} ({correct} of {len(labels)} held-out images)")


if __name__ == "__main__":
    main()
