"""Super-resolution: the shipped files do what the card says, better than bicubic interpolation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from models.espcn.data import pairs, psnr  # noqa: E402
from models.espcn.train import EVALUATION, SEED  # noqa: E402

HOME = Path(__file__).resolve().parents[2] / "models" / "espcn"


def on_card(name: str) -> float:
    found = re.search(rf"{name} PSNR ([\d.]+) dB", (HOME / "card.md").read_text())
    assert found
    return float(found[1])


@pytest.mark.parametrize("name", ["espcn", "espcn_residual"])
def test_psnr_on_the_card(name: str) -> None:
    small, large = pairs(EVALUATION, SEED, held_out=True)
    session = ort.InferenceSession(HOME / f"{name}.onnx", providers=["CPUExecutionProvider"])
    (enlarged,) = session.run(None, {"image": small})
    assert enlarged.shape == large.shape == (EVALUATION, 1, 192, 192)
    assert abs(psnr(enlarged, large) - on_card(name)) < 0.02
    assert on_card(name) > on_card("bicubic")


@pytest.mark.parametrize("name", ["espcn", "espcn_residual"])
def test_file_has_a_free_batch_and_no_traces(name: str) -> None:
    content = (HOME / f"{name}.onnx").read_bytes()
    model = onnx.load_from_string(content)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not [trace for trace in (b".py", b"/home", b"site-packages") if trace in content]
    assert len(content) < 100_000


def test_pairs_repeat_and_stay_in_range() -> None:
    small, large = pairs(3, 1)
    assert small.shape == (3, 1, 64, 64)
    np.testing.assert_array_equal(large, pairs(3, 1)[1])
    assert 0 <= small.min() < small.max() <= 1
