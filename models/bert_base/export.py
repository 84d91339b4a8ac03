"""Writes BERT-base with two classes, untrained, as ONNX: `python models/bert_base/export.py bert_base.onnx`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.bert_base.model import BertBase
from models.untrained_sequences import export_encoder

if __name__ == "__main__":
    export_encoder(BertBase, ["logits"])
