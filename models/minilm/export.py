"""Writes the MiniLM-size sentence encoder, untrained, as ONNX: `python models/minilm/export.py minilm.onnx`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.minilm.model import MiniLM
from models.untrained_sequences import export_encoder

if __name__ == "__main__":
    export_encoder(MiniLM, ["last_hidden_state", "sentence_embedding"])
