"""Writes the mixture of experts, untrained, as ONNX: `python models/moe/export.py moe.onnx [--conditional]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.export import export_onnx
from models.moe.model import ConditionalExperts, MixtureOfExperts
from models.untrained_sequences import SEED, settle

TOKENS, HIDDEN, CLUSTERS = 16, 64, 12


def samples(count: int, seed: int) -> NDArray[np.float32]:
    """Draw tokens from clusters that are the same for every seed, two in a sample.

    Returns:
        float32 [count, 16, 64].
    """
    centres = np.random.default_rng(SEED).normal(size=(CLUSTERS, HIDDEN))
    rng = np.random.default_rng(seed)
    present = rng.integers(CLUSTERS, size=(count, 2))
    cluster = np.take_along_axis(present, rng.integers(2, size=(count, TOKENS)), axis=1)
    return (centres[cluster] + 0.3 * rng.normal(size=(count, TOKENS, HIDDEN))).astype(np.float32)


def build(architecture: type[MixtureOfExperts]) -> MixtureOfExperts:
    """Return a seeded instance in evaluation mode, settled on samples; both architectures get the same weights."""
    torch.manual_seed(SEED)
    settled = MixtureOfExperts()
    settle(settled, (torch.from_numpy(samples(64, SEED)),))
    module = architecture()
    module.load_state_dict(settled.state_dict())
    return module.eval()


def main() -> None:
    """Export to the path that is given."""
    parser = argparse.ArgumentParser(description="Export a mixture of experts, untrained, as ONNX.")
    parser.add_argument("path", type=Path, help="the ONNX file to write")
    parser.add_argument("--conditional", action="store_true", help="skip experts that no token chose, by If")
    arguments = parser.parse_args()
    path: Path = arguments.path
    export_onnx(
        build(ConditionalExperts if arguments.conditional else MixtureOfExperts),
        [torch.from_numpy(samples(1, 0))],
        path,
        input_names=["tokens"],
        output_names=["output"],
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
