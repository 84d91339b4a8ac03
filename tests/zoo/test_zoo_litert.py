"""The same files through LiteRT: each compiles, verifies and computes in INT8 what it should, or is refused rightly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import dsedge
from dsedge.bundle import Bundle
from dsedge.errors import DsedgeError
from dsedge.verify import verify_bundle

ZOO = Path(__file__).parents[2].parent / "shared" / "zoo"
SHAPES = {
    "byte_bidi_lstm": {"input": [1, 32]},
    "ppocr_ch_PP-OCRv2_det_infer": {"x": [1, 3, 96, 160]},
    "ppocr_ch_ppocr_mobile_v2.0_cls_infer": {"x": [1, 3, 48, 192]},
    "tiny_bert_optimum": {"input_ids": [1, 64], "attention_mask": [1, 64]},
}
"""Of inputs with open axes that are not the batch."""


class Written(NamedTuple):
    """What the file holds: the least share of operators in INT8, the most transposes and XNNPACK partitions."""

    int8: float
    transposes: int
    partitions: int


COMPILED = {
    "byte_bidi_lstm": Written(0.5, 0, 5),
    "gesture_history_lstm": Written(0.4, 0, 3),
    "gesture_keypoint_mlp": Written(0.9, 0, 1),
    "light_densenet121": Written(0.45, 1, 1),
    "light_inception_v1": Written(0.9, 1, 3),
    "light_shufflenet": Written(0.95, 17, 1),  # one for each of 16 shuffles of channels
    "light_squeezenet": Written(0.95, 1, 1),
    "mnist_cntk_op7": Written(0.95, 0, 1),
    "poly_residual_block": Written(0.95, 2, 1),  # of the image that is read and of the one that is given back
    "ppocr_ch_PP-OCRv2_det_infer": Written(0.8, 1, 4),
    "ppocr_ch_ppocr_mobile_v2.0_cls_infer": Written(0.6, 1, 1),
    "prisma_nchw_op7": Written(0.95, 1, 3),
    "tiny_bert_optimum": Written(0.6, 10, 3),
    "ultraface_slim320_simplified": Written(0.95, 1, 1),
}
FLOAT = ("lgbm_classifier", "poly_bad_graph_with_duplicate_node_names", "poly_ext_weights", "poly_unsorted")
"""Trees, and graphs without an operator that has an INT8 kernel."""
OPEN = tuple(SHAPES)
REFUSED = {
    "poly_loop": ("DS201", "control flow"),
    "poly_matmul.bf16": ("DS106", "bfloat16"),
    "poly_qdq_conv": ("DS201", "each of its channels has a scale of its own"),
    "poly_scan": ("DS201", "control flow"),
    "qlstm_quantized": ("DS109", "QLinearConv"),
    "sr_with_pre_post_custom_op18": ("DS201", "DecodeImage"),
    "xgb_classifier": ("DS201", "TreeEnsembleClassifier"),
}
SLOW = ("light_densenet121", "light_inception_v1", "light_shufflenet", "prisma_nchw_op7")


def compiled(name: str, folder: Path, shapes: dict[str, list[int]] | None = None) -> Bundle:
    path = ZOO / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    out = folder / "bundle"
    return dsedge.compile(
        path, target="raspberry-pi-5", runtime="litert", calibration="random", shapes=shapes, output=out
    )


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsedge.data.noise.SAMPLES", 4)


def test_every_file_is_expected() -> None:
    if not ZOO.is_dir():
        pytest.skip("the folder is not here")
    assert {path.stem for path in ZOO.glob("*.onnx")} == {*COMPILED, *FLOAT, *REFUSED}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in (*COMPILED, *FLOAT)]
)
def test_a_file_compiles_and_verifies(name: str, tmp_path: Path) -> None:
    bundle = compiled(name, tmp_path, SHAPES.get(name))
    found = verify_bundle(bundle)
    assert all(ratio is None or np.isfinite(ratio) for ratio in found["sqnr_db"])
    precision = bundle.manifest.precision
    assert precision.precision == ("float32" if name in FLOAT else "int8"), bundle.manifest.notes
    if name in COMPILED:
        least = COMPILED[name]
        audit = precision.audit
        assert precision.int8_ops >= least.int8 * precision.total_ops, audit
        assert number(audit, r"(\d+) transposes") <= least.transposes
        assert number(audit, r"in (\d+) XNNPACK") <= least.partitions
        assert "run in float;" not in audit and "all the same" not in audit


def number(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    assert found, text
    return int(found[1])


@pytest.mark.parametrize("name", (*REFUSED, *OPEN))
def test_a_file_that_is_refused(name: str, tmp_path: Path) -> None:
    code, word = REFUSED.get(name, ("DS106", f"--shape {next(iter(SHAPES.get(name, {'': []})))}="))
    with pytest.raises(DsedgeError, match=re.escape(word)) as caught:
        compiled(name, tmp_path)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert caught.value.hint
    assert not (tmp_path / "bundle").exists()
