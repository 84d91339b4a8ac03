"""Writes ResNet-50, untrained, as ONNX: `python models/resnet50/export.py resnet50.onnx`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.resnet50.model import ResNet50
from models.untrained import export_command

if __name__ == "__main__":
    export_command(ResNet50)
