"""Reference architectures without trained weights, made numerically close to a trained network.

A freshly initialized network quantizes unlike a trained one: its channels all have similar ranges, and its residual
branches are as strong as the skip connections, so rounding errors grow from block to block. Here the affine parameters
of batch normalization spread as they do after training, residual branches are weak beside the skip connections (as
trained ones are: He et al. 2015, figure 7), and the running statistics come from photographs, so that activations keep
their scale through the depth of the network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import nn

from models.export import export_onnx
from models.mobilenet_v2.model import MobileNetV2
from models.resnet50.model import ResNet50

Architecture = ResNet50 | MobileNetV2

SEED = 2015
SIZE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def photo_crops(count: int, seed: int) -> NDArray[np.float32]:
    """Cut random crops, half of them mirrored, out of scikit-learn's two sample photographs.

    Returns:
        float32 [count, 3, 224, 224], normalized by ImageNet's mean and standard deviation.
    """
    photos = load_sample_images().images
    rng = np.random.default_rng(seed)
    crops = np.empty((count, 3, SIZE, SIZE), np.float32)
    for crop in crops:
        photo = photos[rng.integers(len(photos))]
        top, left = (rng.integers(length - SIZE + 1) for length in photo.shape[:2])
        pixels = photo[top : top + SIZE, left : left + SIZE][:, :: rng.choice((1, -1))]
        crop[:] = ((pixels / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)
    return crops


def settle_batch_norm(module: Architecture) -> None:
    """Draw the affine parameters of every batch normalization, then set its running statistics from photographs.

    Scales are log-normal (standard deviation 0.3 of the logarithm) around 1, around 0.3 at the end of a residual
    branch; offsets are normal (standard deviation 0.2).
    """
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.normal_(0, 0.3).exp_()
                norm.bias.normal_(0, 0.2)
                norm.momentum = 1.0  # running statistics = those of the last batch
        for norm in module.residual_norms():
            norm.get_parameter("weight").mul_(0.3)
        module.train()(torch.from_numpy(photo_crops(32, SEED)))
    module.eval()


def build(architecture: type[Architecture]) -> Architecture:
    """Return a seeded instance in evaluation mode, batch normalization settled."""
    torch.manual_seed(SEED)
    module = architecture()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    settle_batch_norm(module)
    return module


def export_command(architecture: type[Architecture]) -> None:
    """Run the command line of an `export.py`: write the architecture to the path that is given."""
    parser = argparse.ArgumentParser(description=f"Export {architecture.__name__}, untrained, as ONNX.")
    parser.add_argument("path", type=Path, help="the ONNX file to write")
    path: Path = parser.parse_args().path
    export_onnx(
        build(architecture), torch.from_numpy(photo_crops(1, 0)), path, input_name="image", output_name="logits"
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
