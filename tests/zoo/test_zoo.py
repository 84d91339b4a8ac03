"""Files that nobody here wrote: each compiles and verifies, or is refused with the code that is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import dsedge
from dsedge.bundle import Bundle
from dsedge.errors import DsedgeError
from dsedge.verify import verify_bundle

ZOO = Path(__file__).parents[2].parent / "shared" / "zoo"
TARGETS = (
    "raspberry-pi-5",
    "pos-x86-celeron",
)  # ARM with dot products, and x86 without VNNI: the contracts differ most
INT8 = (
    "byte_bidi_lstm",
    "light_densenet121",
    "light_inception_v1",
    "light_shufflenet",
    "light_squeezenet",
    "poly_residual_block",
    "ppocr_ch_PP-OCRv2_det_infer",
    "ppocr_ch_ppocr_mobile_v2.0_cls_infer",
    "prisma_nchw_op7",
    "ultraface_slim320_simplified",
)
SMALL = ("gesture_history_lstm", "gesture_keypoint_mlp", "mnist_cntk_op7", "poly_qdq_conv", "tiny_bert_optimum")
"""Whether INT8 pays for models of this size is a matter of the target."""
FLOAT = (
    "lgbm_classifier",
    "poly_bad_graph_with_duplicate_node_names",
    "poly_ext_weights",
    "poly_loop",
    "poly_scan",
    "poly_unsorted",
    "xgb_classifier",
)
"""Trees, bodies of control flow, and graphs without an operator that has an INT8 kernel."""
REFUSED = {
    "poly_matmul.bf16": ("DS106", "bfloat16"),
    "qlstm_quantized": ("DS109", "QLinearConv"),
    "sr_with_pre_post_custom_op18": ("DS201", "DecodeImage"),
}

Compile = Callable[[str, str], Bundle]


@pytest.fixture
def compile_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    monkeypatch.setattr("dsedge.data.noise.SAMPLES", 4)

    def compile(name: str, target: str) -> Bundle:
        path = ZOO / f"{name}.onnx"
        if not path.exists():
            pytest.skip(f"{path.name} is not here")
        return dsedge.compile(path, target=target, calibration="random", output=tmp_path / "bundle")

    return compile


def test_every_file_is_expected() -> None:
    if not ZOO.is_dir():
        pytest.skip("the folder is not here")
    assert {path.stem for path in ZOO.glob("*.onnx")} == {*INT8, *SMALL, *FLOAT, *REFUSED}


SLOW = ("light_densenet121", "prisma_nchw_op7")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in (*INT8, *SMALL, *FLOAT)]
)
def test_a_file_compiles_and_verifies(name: str, compile_: Compile) -> None:
    bundle = compile_(name, TARGETS[0])
    found = verify_bundle(bundle)
    assert all(ratio is None or np.isfinite(ratio) for ratio in found["sqnr_db"])
    assert bundle.manifest.fidelity is not None
    assert bundle.manifest.fidelity.same_lengths == 1.0
    onnx.checker.check_model(onnx.load(bundle.file("model")))
    kind = bundle.manifest.precision.precision
    if name not in SMALL:
        assert kind.startswith("int8" if name in INT8 else "float32"), bundle.manifest.notes
    if kind == "float32":  # whoever gets no INT8 is told so
        assert [gate.name for gate in bundle.manifest.failed] and bundle.manifest.notes


@pytest.mark.parametrize("name", SMALL)
def test_a_small_file_on_another_instruction_set(name: str, compile_: Compile) -> None:
    verify_bundle(compile_(name, TARGETS[1]))


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused(name: str, compile_: Compile, tmp_path: Path) -> None:
    code, word = REFUSED[name]
    with pytest.raises(DsedgeError, match=word) as caught:
        compile_(name, TARGETS[0])
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert caught.value.hint
    assert not (tmp_path / "bundle").exists()
