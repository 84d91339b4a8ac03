"""Writes MobileNetV3, untrained, as ONNX: `python models/mobilenet_v3/export.py mobilenet_v3.onnx`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.mobilenet_v3.model import mobilenet_v3_large, mobilenet_v3_small
from models.untrained import export_command, photo_crops

samples = photo_crops

if __name__ == "__main__":
    export_command(mobilenet_v3_large, mobilenet_v3_small, samples=samples)
