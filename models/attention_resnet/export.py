"""Writes ResNet-18 with CBAM, untrained, as ONNX: `python models/attention_resnet/export.py attention_resnet.onnx`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.attention_resnet.model import AttentionResNet
from models.untrained import export_command, photo_crops

samples = photo_crops

if __name__ == "__main__":
    export_command(AttentionResNet, samples=samples)
