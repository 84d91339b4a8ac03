"""A float model that gives NaN or Inf itself: refused where nothing is left to compare, told where something is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Net

import dsedge
from dsedge.errors import LoadError
from dsedge.finite import require_finite
from dsedge.model import Model, TensorSpec

Outputs = list[list[np.ndarray]]

NAN, INF = np.float32(np.nan), np.float32(np.inf)
SPECS = [TensorSpec("scores", "float32", (1, 4)), TensorSpec("ids", "int64", (1,))]
IDS = np.zeros(1, np.int64)


def test_an_output_without_a_number_is_refused() -> None:
    nothing: Outputs = [[np.full((1, 4), NAN), IDS], [np.array([[NAN, INF, -INF, NAN]], np.float32), IDS]]
    with pytest.raises(LoadError) as caught:
        require_finite(SPECS, nothing, "calib.npz")
    assert caught.value.code == "DS128" and "'scores' is NaN or Inf throughout" in caught.value.what
    assert "--calib" not in str(caught.value.hint)
    with pytest.raises(LoadError, match="give real ones with --calib"):
        require_finite(SPECS, nothing, "random")


def test_a_masked_score_is_told_and_a_finite_output_is_not() -> None:
    fine: list[np.ndarray] = [np.ones((1, 4), np.float32), IDS]
    assert require_finite(SPECS, [fine, fine], "calib.npz") == []
    masked: list[np.ndarray] = [np.array([[-INF, 1, 2, 3]], np.float32), IDS]
    (note,) = require_finite(SPECS, [fine, masked], "calib.npz")
    assert note.endswith("12.5% of 'scores' is Inf")
    infinite: list[np.ndarray] = [np.full((1, 4), INF), IDS]  # which is equal to itself, where NaN is not
    (note,) = require_finite(SPECS, [infinite], "calib.npz")
    assert note.endswith("100% of 'scores' is Inf")


def test_no_boxes_at_all_are_no_failure() -> None:
    assert require_finite(SPECS, [[np.zeros((0, 4), np.float32), IDS]], "calib.npz") == []


def logarithm() -> Model:
    net = Net(x=(1, 4, 8, 8))
    net.channels["x"] = 4
    logs = net.op("Log", "x")
    return net.model(net.conv(logs, 8), logs)


def test_the_flow_refuses_and_tells(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    signed = [{"x": rng.standard_normal((1, 4, 8, 8)).astype(np.float32)} for _ in range(4)]
    made: dict[str, Any] = {"target": "raspberry-pi-5", "precision": "fp16", "output": tmp_path / "b"}
    with pytest.raises(LoadError) as caught:
        dsedge.compile(logarithm(), calibration=[{"x": -np.abs(s["x"]) - 1} for s in signed], **made)
    assert caught.value.code == "DS128" and not (tmp_path / "b").exists()
    some = [{"x": np.abs(s["x"])} for s in signed]
    some[0]["x"][0, 0, 0, 0] = -1
    bundle = dsedge.compile(logarithm(), calibration=some, **made)
    (note,) = [note for note in bundle.manifest.notes if "gives NaN or Inf on this data" in note]
    assert "'log_0' is NaN" in note and "'conv_1' is NaN" in note
