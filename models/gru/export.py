"""Writes the GRU as ONNX: `python models/gru/export.py gru.onnx`, or with state in and out by `--streaming FRAMES`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.ds_cnn.generator import BINS, generate
from models.export import export_onnx
from models.gru.model import KeywordGRU, StreamingGRU

WEIGHTS = Path(__file__).resolve().parent / "weights.npz"


def load() -> KeywordGRU:
    """Return the trained network in evaluation mode."""
    model = KeywordGRU()
    with np.load(WEIGHTS, allow_pickle=False) as archive:
        model.load_state_dict({name: torch.from_numpy(archive[name]).float() for name in archive})
    return model.eval()


def main() -> None:
    """Export to the path that is given."""
    parser = argparse.ArgumentParser(description="Export the GRU keyword spotter as ONNX.")
    parser.add_argument("path", type=Path, help="the ONNX file to write")
    parser.add_argument("--streaming", type=int, metavar="FRAMES", help="take this many frames and a state at a time")
    arguments = parser.parse_args()
    path: Path = arguments.path
    if arguments.streaming:
        export_onnx(
            StreamingGRU(load()),
            [torch.randn(1, arguments.streaming, BINS), torch.randn(2, 1, 128).tanh()],
            path,
            input_names=["log_mel", "state"],
            output_names=["logits", "state_out"],
        )
    else:
        export_onnx(
            load(),
            [torch.from_numpy(generate(2, 0)[0])],
            path,
            input_names=["log_mel"],
            output_names=["logits"],
            dynamic_axes={"log_mel": {0: "batch"}},
        )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
