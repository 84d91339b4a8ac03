"""Writes ViT-Ti/16, untrained, as ONNX: `python models/vit_tiny/export.py vit_tiny.onnx`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.export import dynamic_export_command
from models.untrained import photo_crops
from models.untrained_sequences import SEED, settle
from models.vit_tiny.model import ViTTiny


def build() -> ViTTiny:
    """Return a seeded instance in evaluation mode, settled on photographs."""
    torch.manual_seed(SEED)
    module = ViTTiny()
    photos = torch.from_numpy(photo_crops(4, SEED))
    with torch.no_grad():
        module.patches.weight /= module.patches(photos).std()
    settle(module, (photos,))
    return module


if __name__ == "__main__":
    dynamic_export_command(
        build,
        lambda batch: {"image": torch.from_numpy(photo_crops(batch, 0))},
        ["logits"],
        lengths=(2,),
        dynamic_axes={"image": {0: "batch"}},
    )
