"""Trains ds_cnn and writes ds_cnn.onnx, calibration.npz and evaluation.npz beside this file.

Run `python models/ds_cnn/train.py`. One thread and fixed seeds: the same machine writes the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.ds_cnn.generator import cepstrum, generate
from models.ds_cnn.model import DSCNN
from models.export import export_onnx

HERE = Path(__file__).resolve().parent
TRAINING_SEED, TRAINING = 1, 6_000
EVALUATION_SEED, EVALUATION = 2, 1_000
CALIBRATION = 128
EPOCHS = 8
BATCH = 64


def fit(model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, max_lr: float) -> None:
    """Train a classifier in place with AdamW, a one-cycle learning rate and cross-entropy."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = len(inputs) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=max_lr, total_steps=EPOCHS * steps)
    model.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(inputs))[: steps * BATCH].view(steps, BATCH):
            loss = F.cross_entropy(model(inputs[batch]), labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{EPOCHS}  loss {total / steps:.4f}")


def main() -> None:
    """Train, export, write the data, and print the exported model's accuracy."""
    torch.manual_seed(TRAINING_SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    sounds, labels = generate(TRAINING, TRAINING_SEED)
    seen = cepstrum(sounds)
    model = DSCNN()
    fit(model, torch.from_numpy(seen), torch.from_numpy(labels), max_lr=1e-2)

    sounds, expected = generate(EVALUATION, EVALUATION_SEED)
    held_out = cepstrum(sounds)
    path = HERE / "ds_cnn.onnx"
    export_onnx(
        model,
        [torch.from_numpy(held_out[:16])],
        path,
        input_names=["cepstrum"],
        output_names=["logits"],
        dynamic_axes={"cepstrum": {0: "batch"}},
    )
    np.savez_compressed(HERE / "calibration.npz", cepstrum=seen[:CALIBRATION])
    np.savez_compressed(HERE / "evaluation.npz", cepstrum=held_out, labels=expected)

    (logits,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"cepstrum": held_out})
    print(f"top-1 accuracy {(logits.argmax(1) == expected).mean():.3%} ({EVALUATION} sounds)")


if __name__ == "__main__":
    main()
