"""Trains gru and writes its weights, as float16, to weights.npz beside this file.

Run `python models/gru/train.py`. One thread and fixed seeds: the same machine writes the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.ds_cnn.generator import generate
from models.ds_cnn.train import EVALUATION, EVALUATION_SEED, TRAINING, TRAINING_SEED, fit
from models.gru.export import WEIGHTS, load
from models.gru.model import KeywordGRU


def main() -> None:
    """Train, write the weights, and print the accuracy with the weights as written."""
    torch.manual_seed(TRAINING_SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    sounds, labels = generate(TRAINING, TRAINING_SEED)
    model = KeywordGRU()
    fit(model, torch.from_numpy(sounds), torch.from_numpy(labels), max_lr=4e-3)
    np.savez_compressed(WEIGHTS, **{name: value.half().numpy() for name, value in model.state_dict().items()})

    sounds, expected = generate(EVALUATION, EVALUATION_SEED)
    with torch.inference_mode():
        predicted = load()(torch.from_numpy(sounds)).argmax(1).numpy()
    print(f"top-1 accuracy {(predicted == expected).mean():.3%} ({EVALUATION} sounds)")


if __name__ == "__main__":
    main()
