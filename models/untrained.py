"""Reference architectures without trained weights, made numerically close to a trained network.

A freshly initialized network quantizes unlike a trained one: its channels all have similar ranges, and its residual
branches are as strong as the skip connections, so rounding errors grow from block to block. Here the affine parameters
of batch normalization spread as they do after training, residual branches are weak beside the skip connections (as
trained ones are: He et al. 2015, figure 7), and the running statistics come from photographs, so that activations keep
their scale through the depth of the network.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import nn

from models.export import export_onnx

Architecture = TypeVar("Architecture", bound=nn.Module)
Samples = Callable[[int, int], NDArray[np.float32]]
"""Makes the model's input, float32 [count, ...], from a count and a seed; `photo_crops` is one."""

SEED = 2015
SIZE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def photo_crops(count: int, seed: int, size: int = SIZE) -> NDArray[np.float32]:
    """Cut random crops, half of them mirrored, out of scikit-learn's two sample photographs of 427x640 pixels.

    Returns:
        float32 [count, 3, size, size], normalized by ImageNet's mean and standard deviation.
    """
    photos = load_sample_images().images
    rng = np.random.default_rng(seed)
    crops = np.empty((count, 3, size, size), np.float32)
    for crop in crops:
        photo = photos[rng.integers(len(photos))]
        top, left = (rng.integers(length - size + 1) for length in photo.shape[:2])
        pixels = photo[top : top + size, left : left + size][:, :: rng.choice((1, -1))]
        crop[:] = ((pixels / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)
    return crops


def settle_batch_norm(module: nn.Module, samples: NDArray[np.float32]) -> None:
    """Draw the affine parameters of every batch normalization, then set its running statistics from samples.

    Scales are log-normal (standard deviation 0.3 of the logarithm) around 1, around 0.3 at the end of a residual
    branch, which a module lists by a method `residual_norms`; offsets are normal (standard deviation 0.2). Layers that
    a module lists by a method `gate_layers`, whose outputs become gates by a sigmoid, are scaled to an output of
    root mean square 2: trained gates open and close, those of a random initialization stay near a half.
    """
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                norm.weight.normal_(0, 0.3).exp_()
                norm.bias.normal_(0, 0.2)
                norm.momentum = 1.0  # running statistics = those of the last batch
        residual_norms: list[nn.Module] = getattr(module, "residual_norms", list)()
        for norm in residual_norms:
            norm.get_parameter("weight").mul_(0.3)
        gate_layers: list[nn.Module] = getattr(module, "gate_layers", list)()
        hooks = [layer.register_forward_hook(_spread) for layer in gate_layers]
        module.train()(torch.from_numpy(samples))
        for hook in hooks:
            hook.remove()
    module.eval()


def _spread(layer: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
    scale = 2 / output.square().mean().sqrt()
    for parameter in layer.parameters():
        parameter.mul_(scale)
    return output * scale


def build(architecture: Callable[[], Architecture], samples: Samples = photo_crops) -> Architecture:
    """Return a seeded instance in evaluation mode, batch normalization settled on 32 samples."""
    torch.manual_seed(SEED)
    module = architecture()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    settle_batch_norm(module, samples(32, SEED))
    return module


def export(module: nn.Module, samples: Samples, path: Path, input_name: str, output_name: str) -> None:
    """Write a module with one input and one output as ONNX, for one sample a run, and print the file's size."""
    export_onnx(module, [torch.from_numpy(samples(1, 0))], path, input_names=[input_name], output_names=[output_name])
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def export_command(
    *architectures: Callable[[], nn.Module], samples: Samples = photo_crops, input_name: str = "image"
) -> None:
    """Run the command line of an `export.py`: write the architecture to the path that is given.

    Of several architectures the option `--variant` chooses one by its name; the first is the default.
    """
    variants = {architecture.__name__: architecture for architecture in architectures}
    default = architectures[0].__name__
    parser = argparse.ArgumentParser(description=f"Export {', '.join(variants)}, untrained, as ONNX.")
    parser.add_argument("path", type=Path, help="the ONNX file to write")
    if len(variants) > 1:
        parser.add_argument("--variant", choices=variants, default=default, help=f"default: {default}")
    arguments = parser.parse_args()
    module = build(variants[getattr(arguments, "variant", default)], samples)
    export(module, samples, arguments.path, input_name, "logits")
