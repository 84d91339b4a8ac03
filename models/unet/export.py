"""Writes the U-Net, untrained, as ONNX: `python models/unet/export.py unet.onnx`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.unet.model import UNet
from models.untrained import export_command, photo_crops

samples = partial(photo_crops, size=256)

if __name__ == "__main__":
    export_command(UNet, samples=samples)
