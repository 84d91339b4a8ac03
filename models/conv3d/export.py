"""Writes the 3-D convolutional network, untrained, as ONNX: `python models/conv3d/export.py conv3d.onnx`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.conv3d.model import Conv3dNet
from models.untrained import export_command, photo_crops

FRAMES = 16
SIZE = 112
MARGIN = 60
"""How far the frame moves at most from the first to the last, in pixels, in both directions."""


def samples(count: int, seed: int) -> NDArray[np.float32]:
    """Clips of a frame that moves evenly over a photograph, float32 [count, 3, 16, 112, 112]."""
    crops = photo_crops(count, seed, SIZE + MARGIN)
    ends = np.random.default_rng(seed).integers(MARGIN + 1, size=(count, 2, 2))
    clips = np.empty((count, 3, FRAMES, SIZE, SIZE), np.float32)
    for clip, crop, (first, last) in zip(clips, crops, ends, strict=True):
        for frame, (top, left) in enumerate(np.linspace(first, last, FRAMES).round().astype(int)):
            clip[:, frame] = crop[:, top : top + SIZE, left : left + SIZE]
    return clips


if __name__ == "__main__":
    export_command(Conv3dNet, samples=samples, input_name="clip")
