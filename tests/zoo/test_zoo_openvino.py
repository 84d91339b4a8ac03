"""The same files through OpenVINO: each compiles and verifies with its axes open as they are, or is refused rightly.

The board is one for which this machine does not stand, so that speed decides nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import dsedge
from dsedge.bundle import Bundle
from dsedge.errors import DsedgeError
from dsedge.verify import verify_bundle

pytest.importorskip("openvino")

ZOO = Path(__file__).parents[2].parent / "shared" / "zoo"
COMPILED = {
    "byte_bidi_lstm": 1,  # the layers with a state are float
    "gesture_history_lstm": 3,
    "gesture_keypoint_mlp": 5,
    "light_densenet121": 184,
    "light_inception_v1": 136,
    "light_shufflenet": 117,
    "mnist_cntk_op7": 7,
    "poly_residual_block": 9,
    "ppocr_ch_PP-OCRv2_det_infer": 113,
    "ppocr_ch_ppocr_mobile_v2.0_cls_infer": 120,
    "prisma_nchw_op7": 125,
    "tiny_bert_optimum": 15,
    "ultraface_slim320_simplified": 76,
}
"""Name -> the least number of operators in INT8."""
FLOAT = (
    "lgbm_classifier",
    "poly_bad_graph_with_duplicate_node_names",
    "poly_ext_weights",
    "poly_scan",
    "poly_unsorted",
)
"""Trees and graphs without an operator that has an INT8 kernel."""
GIVEN = "poly_qdq_conv"
"""It came with Q/DQ pairs of its own."""
REFUSED = {
    "light_squeezenet": ("DS501", "its Softmax"),  # its logits reach 7e9: rounding decides what the classes get
    "poly_loop": ("DS201", "Loop 'while_loop'"),
    "poly_matmul.bf16": ("DS106", "bfloat16"),
    "qlstm_quantized": ("DS109", "QLinearConv"),
    "sr_with_pre_post_custom_op18": ("DS201", "DecodeImage"),
    "xgb_classifier": ("DS201", "TreeEnsembleClassifier"),
}
SLOW = ("light_densenet121", "light_inception_v1", "light_shufflenet", "prisma_nchw_op7")


def compiled(name: str, folder: Path) -> Bundle:
    path = ZOO / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return dsedge.compile(
        path, target="pos-x86-celeron", runtime="openvino", calibration="random", output=folder / "bundle"
    )


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsedge.data.noise.SAMPLES", 4)


def test_every_file_is_expected() -> None:
    if not ZOO.is_dir():
        pytest.skip("the folder is not here")
    assert {path.stem for path in ZOO.glob("*.onnx")} == {*COMPILED, *FLOAT, GIVEN, *REFUSED}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in (*COMPILED, *FLOAT, GIVEN)]
)
def test_a_file_compiles_and_verifies(name: str, tmp_path: Path) -> None:
    bundle = compiled(name, tmp_path)
    found = verify_bundle(bundle)
    assert all(ratio is None or np.isfinite(ratio) for ratio in found["sqnr_db"])
    precision = bundle.manifest.precision
    assert precision.precision == ("float32" if name in FLOAT else "int8"), bundle.manifest.notes
    assert precision.int8_ops >= COMPILED.get(name, 0)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused(name: str, tmp_path: Path) -> None:
    code, word = REFUSED[name]
    with pytest.raises(DsedgeError, match=re.escape(word)) as caught:
        compiled(name, tmp_path)
    assert caught.value.code == code
    assert not (tmp_path / "bundle").exists()
