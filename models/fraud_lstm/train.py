"""Trains fraud_lstm and writes fraud_lstm.onnx, calibration.npz and evaluation.npz beside this file.

Run `python models/fraud_lstm/train.py`. One thread and fixed seeds: the same machine writes the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.export import export_onnx
from models.fraud_lstm.generator import generate
from models.fraud_lstm.model import FraudLSTM

HERE = Path(__file__).resolve().parent
TRAINING_SEED, TRAINING = 1, 24_000
EVALUATION_SEED, EVALUATION = 2, 2_000
CALIBRATION = 128
EPOCHS = 8
BATCH = 128


def train(sequences: torch.Tensor, labels: torch.Tensor) -> FraudLSTM:
    """Train a network with AdamW and a one-cycle learning rate."""
    model = FraudLSTM().train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = len(sequences) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(sequences))[: steps * BATCH].view(steps, BATCH):
            loss = F.binary_cross_entropy(model(sequences[batch])[:, 0], labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{EPOCHS}  loss {total / steps:.4f}")
    return model


def main() -> None:
    """Train, export, write the data, and print the exported model's ROC AUC and average precision."""
    torch.manual_seed(TRAINING_SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    sequences, labels = generate(TRAINING, TRAINING_SEED)
    model = train(torch.from_numpy(sequences), torch.from_numpy(labels).float())

    transactions, expected = generate(EVALUATION, EVALUATION_SEED)
    path = HERE / "fraud_lstm.onnx"
    example = torch.from_numpy(transactions[:16])
    export_onnx(
        model,
        [example],
        path,
        input_names=["transactions"],
        output_names=["fraud_probability"],
        dynamic_axes={"transactions": {0: "batch"}},
    )
    np.savez_compressed(HERE / "calibration.npz", transactions=sequences[:CALIBRATION])
    np.savez_compressed(HERE / "evaluation.npz", transactions=transactions, labels=expected)

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"transactions": transactions})
    auc, precision = roc_auc_score(expected, scores[:, 0]), average_precision_score(expected, scores[:, 0])
    print(f"ROC AUC {auc:.4f}, average precision {precision:.4f} ({EVALUATION} sequences, {expected.sum()} frauds)")


if __name__ == "__main__":
    main()
