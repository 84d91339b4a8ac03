"""Writes MobileNetV2, untrained, as ONNX: `python models/mobilenet_v2/export.py mobilenet_v2.onnx`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.mobilenet_v2.model import MobileNetV2
from models.untrained import export_command

if __name__ == "__main__":
    export_command(MobileNetV2)
