"""Outlier channels move into the weights, where that helps, and the function stays the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from flow import contract, run, worst_sqnr
from graphs import Net

from dsedge.data import Batch
from dsedge.passes.normalize import normalize
from dsedge.quant.annotate import annotate
from dsedge.quant.calibrate import assign_ranges, calibrate
from dsedge.quant.insert import insert
from dsedge.quant.smooth import LEAST_GAIN_DB, sites, smooth

ROWS, HIDDEN = 64, 128


def block(*, residual: bool, outliers: float = 40.0) -> ir.Model:
    """A normalization whose scale makes a few channels large, read by two layers, and by an Add where `residual`."""
    net = Net(x=(ROWS, HIDDEN))
    scale = np.ones(HIDDEN, np.float32)
    scale[::32] = outliers
    y = net.op("LayerNormalization", "x", net.const(scale), net.const(np.zeros(HIDDEN, np.float32)), axis=-1)
    a, b = net.gemm(y, HIDDEN, HIDDEN), net.gemm(y, HIDDEN, 256)
    outputs = [net.op("Add", a, y), b] if residual else [a, b]
    return normalize(net.model(*outputs))[0].graph


def batches(count: int = 4) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [Batch({"x": rng.standard_normal((ROWS, HIDDEN)).astype(np.float32)}, 1, None) for _ in range(count)]


def quantized(model: ir.Model) -> ir.Model:
    accepts = contract()
    plan = annotate(model.graph, accepts)
    observers, _ = calibrate(model, [v for v in plan.values if v not in model.graph.initializers], batches(), "minmax")
    return insert(model, assign_ranges(plan, model.graph, accepts, observers, "minmax"), accepts)


def smoothed(model: ir.Model) -> tuple[ir.Model, list[str]]:
    return smooth(model, annotate(model.graph, contract()), contract(), batches())


@pytest.mark.parametrize("residual", [False, True])
def test_outliers_move_into_the_weights(residual: bool) -> None:
    model = block(residual=residual)
    result, notes = smoothed(model)
    assert len(notes) == 1
    for before, after in zip(run(model, batches()), run(result, batches()), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3 * np.abs(before).max())
    gained = worst_sqnr(model, quantized(result), batches()) - worst_sqnr(model, quantized(model), batches())
    assert gained > LEAST_GAIN_DB
    # Where only linear layers read the value the factors cost nothing at run time.
    assert [n.op_type for n in result.graph].count("Mul") == residual


def test_even_channels_stay_as_they_are() -> None:
    model = block(residual=False, outliers=1.0)
    result, notes = smoothed(model)
    assert result is model
    assert notes == []


def test_only_values_that_linear_layers_quantize_for_themselves_are_sites() -> None:
    net = Net(image=(1, 8, 16, 16))
    x = net.conv("image", 16)
    model = normalize(net.model(net.head(x)))[0].graph
    assert sites(model.graph, annotate(model.graph, contract())) == []
    model = block(residual=True)
    (site,) = sites(model.graph, annotate(model.graph, contract()))
    assert len(site.layers) == 2


def test_a_layer_that_is_float_is_no_site() -> None:
    model = block(residual=False)
    plan = annotate(model.graph, contract(), lifted={"Gemm_1": "x", "Gemm_2": "x"})
    assert smooth(model, plan, contract(), batches())[0] is model
