"""Whole networks through the LiteRT backend: the codes are those of the Q/DQ graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from flow import Quantized, quantized

from dsedge.backends import litert
from dsedge.backends.base import Audit
from dsedge.backends.litert.audit import delegation
from dsedge.backends.litert.read import Operator, read
from dsedge.bench.runner import sqnr_of_samples
from dsedge.data import Batch, open_data
from dsedge.frontend import load
from dsedge.frontend.static import with_static_axes
from dsedge.model import Model
from dsedge.quant.interface import output_scales
from dsedge.target import load_target
from dsedge.verify import open_artifact, predictor, run_all

MODELS = Path(__file__).parents[3] / "models"
TARGET = load_target("raspberry-pi-5")
CNNS = ["digits_cnn", "ds_cnn", "espcn"]


@dataclass(frozen=True)
class Built:
    m: Quantized
    audit: Audit
    operators: list[Operator]
    outside: list[str]
    bytes: dict[str, int]
    steps: list[np.ndarray | None]
    sqnr: list[float | None]


@lru_cache
def built(name: str) -> Built:
    """A model quantized as LiteRT wants it, its files, and how far their outputs are from the graphs' on 8 samples."""
    source, _ = with_static_axes(load(MODELS / name / f"{name}.onnx"), "litert")
    calibration, held_out = (_samples(source, name, kind) for kind in ("calibration", "evaluation"))
    m = quantized(source, litert.contract(TARGET), batches=calibration)
    held_out = held_out[:8]
    with TemporaryDirectory() as folder:
        sizes = {}
        for kind, graph in (("float", m.graph), ("int8", m.model)):
            artifact = litert.build(graph, Path(folder))
            sizes[kind] = artifact.bytes
            got = run_all(open_artifact(litert, artifact.main, 1), held_out)
            if kind == "float":
                expected = run_all(predictor(graph), held_out)
                sqnr = [sqnr_of_samples(*sides) for sides in _by_output(expected, got)]
        expected = run_all(predictor(m.model, optimize=False), held_out)
        steps = [
            None
            if scale is None
            else np.concatenate([np.rint(np.abs(a - b) / scale).ravel() for a, b in zip(*sides, strict=True)])
            for scale, sides in zip(output_scales(m.model.graph), _by_output(expected, got), strict=True)
        ]
        operators = read(artifact.main)
        taken = delegation(artifact.main, operators)
        outside = [o.op for o in operators if not taken.takes(o)]
        return Built(m, litert.audit(artifact, m.plan, TARGET), operators, outside, sizes, steps, sqnr)


def _samples(source: Model, name: str, kind: str) -> list[Batch]:
    """Those that lie beside the model, else noise."""
    file = MODELS / name / f"{kind}.npz"
    return open_data(file if file.exists() else "random", source).head(16)


def _by_output(*sides: list[list[np.ndarray]]) -> list[tuple[list[np.ndarray], ...]]:
    return [tuple([sample[i] for sample in side] for side in sides) for i in range(len(sides[0][0]))]


@pytest.mark.parametrize("name", CNNS)
def test_the_codes_are_those_of_the_graph(name: str) -> None:
    for steps in built(name).steps:
        assert steps is not None, "the output is codes"
        assert steps.max() <= 2
        assert (steps == 0).mean() > 0.99


@pytest.mark.parametrize("name", CNNS)
def test_a_convolutional_network_is_int8_in_one_piece(name: str) -> None:
    found = built(name)
    assert {n.precision for n in found.m.plan.nodes.values()} == {"int8"}
    assert found.audit.unmatched == {}
    assert found.outside == []
    assert "1 XNNPACK partition" in found.audit.summary
    assert {o.precision for o in found.operators if "QUANTIZE" not in o.op} == {"int8"}
    assert sum("QUANTIZE" in o.op for o in found.operators) == 2


@pytest.mark.parametrize("name", CNNS)
def test_nothing_is_transposed(name: str) -> None:
    assert "TRANSPOSE" not in [o.op for o in built(name).operators], "images of one channel lie the same either way"


@pytest.mark.parametrize("name", [*CNNS, "fraud_lstm"])
def test_the_float_file_computes_what_the_model_does(name: str) -> None:
    assert all(ratio is None or ratio > 100 for ratio in built(name).sqnr)


@pytest.mark.parametrize(
    ("name", "share"), [("digits_cnn", 0.3), ("ds_cnn", 0.5), ("espcn", 0.35), ("fraud_lstm", 0.4)]
)
def test_sizes(name: str, share: float) -> None:
    found = built(name)
    assert found.bytes["int8"] < share * found.bytes["float"]


def test_a_recurrent_model_multiplies_float_states_with_int8_weights() -> None:
    found = built("fraud_lstm")
    assert found.audit.unmatched == {}
    steps = 32
    assert [o.op for o in found.operators if o.precision == "hybrid"] == ["FULLY_CONNECTED"] * (1 + steps)
    assert found.outside == ["SPLIT"], "into the steps: XNNPACK splits into four at most"
    assert "reset_all_variables" not in found.audit.summary
