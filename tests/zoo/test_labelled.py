"""Files of other makers with labelled data: the artifact is within 0.3 points of float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dsedge

SHARED = Path(__file__).resolve().parents[3] / "shared"
FILES = {
    "mnist_cntk_op7": "mnist_test",
    "gesture_keypoint_mlp": "gesture_keypoint",
    "gesture_history_lstm": "gesture_point_history",
}
CALIBRATION, EVALUATION = 64, 2000


def load(name: str) -> tuple[dict[str, Any], np.ndarray]:
    """The inputs of a model, the first axis counting samples, and the labels, both shuffled."""
    with np.load(SHARED / "data" / f"{FILES[name]}.npz", allow_pickle=False) as archive:
        x, y = archive["x"].astype(np.float32), archive["y"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))[: CALIBRATION + EVALUATION]
    x, y = x[order], y[order]
    if name.startswith("mnist"):
        return {"Input3": x[:, None]}, y
    inputs = {"input": x}
    if name.endswith("lstm"):
        inputs["score_threshold"] = np.full(len(x), 0.5, np.float32)
    return inputs, y


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("target", ["pos-x86", "raspberry-pi-5"])
def test_within_three_tenths_of_a_point(name: str, target: str, tmp_path: Path) -> None:
    model = SHARED / "zoo" / f"{name}.onnx"
    if not model.is_file():
        pytest.skip(f"{name}: shared/ is not there")
    inputs, labels = load(name)
    bundle = dsedge.compile(
        model,
        target=target,
        runtime="onnxruntime",
        calibration={key: array[:CALIBRATION] for key, array in inputs.items()},
        evaluate=(
            {key: array[CALIBRATION:] for key, array in inputs.items()} | {"labels": labels[CALIBRATION:]},
            "top1",
        ),
        max_drop=0.3,
        output=tmp_path / "out",
    )
    (metric,) = bundle.manifest.metrics
    assert metric.float > 80
    assert metric.drop <= 0.3
    assert metric.samples == EVALUATION
