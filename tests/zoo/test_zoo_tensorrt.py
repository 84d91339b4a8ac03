"""The same files through TensorRT: in INT8, as NVIDIA's compiler builds them, in float, or refused rightly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsedge
from dsedge.backends.tensorrt import oracle
from dsedge.bundle import Bundle
from dsedge.errors import DsedgeError
from dsedge.verify import verify_bundle

ZOO = Path(__file__).parents[2].parent / "shared" / "zoo"
COMPILED = {
    "light_densenet121": 180,
    "light_inception_v1": 114,
    "light_shufflenet": 66,
    "light_squeezenet": 52,
    "mnist_cntk_op7": 2,
    "poly_residual_block": 9,
    "ppocr_ch_PP-OCRv2_det_infer": 94,
    "ppocr_ch_ppocr_mobile_v2.0_cls_infer": 72,
    "prisma_nchw_op7": 108,
    "ultraface_slim320_simplified": 68,
}
"""Name -> the least number of operators in INT8."""
FLOAT = (
    "byte_bidi_lstm",
    "gesture_history_lstm",
    "gesture_keypoint_mlp",
    "lgbm_classifier",
    "poly_bad_graph_with_duplicate_node_names",
    "poly_ext_weights",
    "poly_loop",
    "poly_scan",
    "poly_unsorted",
    "tiny_bert_optimum",
)
"""Recurrences, products too small for an INT8 kernel, and graphs without any."""
REFUSED = {
    "poly_matmul.bf16": ("DS106", "bfloat16"),
    "poly_qdq_conv": ("DS404", "TRT002"),  # it came with a zero point
    "qlstm_quantized": ("DS109", "QLinearConv"),
    "sr_with_pre_post_custom_op18": ("DS201", "DecodeImage"),
    "xgb_classifier": ("DS201", "TreeEnsembleClassifier"),
}
SLOW = ("light_densenet121", "light_inception_v1", "light_shufflenet", "ppocr_ch_PP-OCRv2_det_infer", "prisma_nchw_op7")
SHAPES: dict[str, dict[str, str]] = {
    "byte_bidi_lstm": {"input": "1,64"},
    "ppocr_ch_PP-OCRv2_det_infer": {"x": "1,3,320,320"},
    "ppocr_ch_ppocr_mobile_v2.0_cls_infer": {"x": "1,3,48,192"},
    "tiny_bert_optimum": dict.fromkeys(("input_ids", "attention_mask"), "1,32"),
}


def compiled(name: str, folder: Path) -> Bundle:
    path = ZOO / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    options: dict[str, Any] = {"shapes": SHAPES.get(name)}
    return dsedge.compile(path, target="a100", calibration="random", output=folder / "bundle", **options)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsedge.data.noise.SAMPLES", 4)


def test_every_file_is_expected() -> None:
    if not ZOO.is_dir():
        pytest.skip("the folder is not here")
    assert {path.stem for path in ZOO.glob("*.onnx")} == {*COMPILED, *FLOAT, *REFUSED}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in COMPILED])
def test_a_file_compiles_and_verifies(name: str, tmp_path: Path) -> None:
    bundle = compiled(name, tmp_path)
    assert all(ratio is None or np.isfinite(ratio) for ratio in verify_bundle(bundle)["sqnr_db"])
    made = bundle.manifest.precision
    assert made.precision == "int8" and made.int8_ops >= COMPILED[name]
    if oracle.version() is not None:
        assert bundle.manifest.status == "checked"
        told = re.match(r"(\d+) of (\d+) products run on codes", made.audit)
        assert told and told[1] == told[2], made.audit


@pytest.mark.parametrize("name", FLOAT)
def test_a_file_in_which_no_int8_pays(name: str, tmp_path: Path) -> None:
    assert compiled(name, tmp_path).manifest.precision.precision == "float32"


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused(name: str, tmp_path: Path) -> None:
    code, word = REFUSED[name]
    with pytest.raises(DsedgeError, match=re.escape(word)) as caught:
        compiled(name, tmp_path)
    assert caught.value.code == code
    assert not (tmp_path / "bundle").exists()
