"""Pairs of a small and a large image, cut out of scikit-learn's two sample photographs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch.nn import functional as F

from models.espcn.model import SCALE

LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255
SPLIT = 424
"""Columns to the left of it are for training and calibration, the others are held out."""


def pairs(
    count: int, seed: int, *, held_out: bool = False, side: int = 64
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut random crops of luma (ITU-R BT.601) and shrink them three times (bicubic, antialiased).

    Returns:
        Small images float32 [count, 1, side, side] and large ones [count, 1, 3 * side, 3 * side], in 0..1.
    """
    rng = np.random.default_rng(seed)
    length = SCALE * side
    large = np.empty((count, 1, length, length), np.float32)
    photos = load_sample_images().images
    for crop in large:
        photo = photos[rng.integers(len(photos))]
        photo = photo[:, SPLIT:] if held_out else photo[:, :SPLIT]
        top, left = (rng.integers(extent - length + 1) for extent in photo.shape[:2])
        crop[:] = photo[top : top + length, left : left + length] @ LUMA
    small = F.interpolate(torch.from_numpy(large), (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    return small.numpy(), large


def psnr(images: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1, mean over the images, borders included."""
    errors = ((images.clip(0, 1) - expected) ** 2).mean(axis=(1, 2, 3))
    return float(-10 * np.log10(errors).mean())
