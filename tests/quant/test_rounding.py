from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from flow import contract
from graphs import Net

from dsedge.data import Batch
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.quant.blocks import block_qparams
from dsedge.quant.error_feedback import round_with_feedback
from dsedge.quant.insert import insert
from dsedge.quant.plan import QuantPlan
from dsedge.quant.precision import Request, annotate_as_asked
from dsedge.quant.qparams import quantize, spread
from dsedge.quant.rounding import channel_products, round_weights

FORMAT = contract().block
assert FORMAT is not None


def correlated(rows: int, channels: int, seed: int) -> np.ndarray:
    """Activations as a network has them: few directions carry most, and some channels are strong."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((channels // 8, channels)) * np.exp(rng.standard_normal(channels))
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, channels // 8)) @ mix + rng.standard_normal((rows, channels))).astype(np.float32)


def db(exact: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - got) ** 2)))


def layers() -> tuple[ir.Model, QuantPlan]:
    """Two layers on one weight, and a third that is too small for INT4."""
    net = Net(x=("N", 512))
    weight = net.weight(512, 512, fan_in=512)
    y = net.op("Gemm", net.op("Relu", net.op("Gemm", "x", weight)), weight)
    model: Model = normalize(net.model(net.gemm(y, 512, 10)))[0]
    return model.graph, annotate_as_asked(model.graph.graph, contract(), Request("int4"))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("channels", "rows"), [(256, 512), (200, 40)])
def test_feedback_keeps_the_output(axis: int, channels: int, rows: int) -> None:
    weight = np.random.default_rng(1).standard_normal((channels, 64)).astype(np.float32)
    seen, unseen = correlated(rows, channels, 1), correlated(400, channels, 2)
    products = _products(seen)
    found = round_with_feedback(weight if axis == 0 else weight.T.copy(), axis, FORMAT, products)
    assert found is not None
    rounded, params = found
    rounded = rounded if axis == 0 else rounded.T
    plain = block_qparams(weight, 0, FORMAT)
    nearest = (quantize(weight, plain, FORMAT).astype(np.float32) - _wide(plain, weight)) * spread(
        plain.scale, plain, weight.shape
    )
    assert db(unseen @ weight, unseen @ rounded) > db(unseen @ weight, unseen @ nearest) + 2
    assert params.axis == axis


def _wide(params: object, weight: np.ndarray) -> np.ndarray:
    return spread(params.zero_point, params, weight.shape).astype(np.float32)  # type: ignore[attr-defined]


def _products(rows: np.ndarray) -> np.ndarray:
    """As `channel_products` finds them."""
    net = Net(x=("N", rows.shape[1]))
    model = net.model(net.op("Gemm", "x", net.weight(rows.shape[1], 1024))).graph
    plan = annotate_as_asked(model.graph, contract(), Request("int4"))
    return channel_products(model, plan, [Batch({"x": rows}, len(rows), None)])["x"]


def test_products_are_shrunk_to_their_diagonal() -> None:
    rows = correlated(100, 300, 3)
    exact, found = rows.T @ rows / len(rows), _products(rows)
    assert np.allclose(np.diag(found), np.diag(exact), rtol=1e-4)
    off = ~np.eye(300, dtype=bool)
    assert np.allclose(found[off], exact[off] * 0.25, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("products", [np.zeros((64, 64)), np.ones((64, 64)), np.full((64, 64), np.nan), np.eye(3)])
def test_degenerate_products_do_no_harm(products: np.ndarray) -> None:
    weight = np.random.default_rng(4).standard_normal((64, 8)).astype(np.float32)
    found = round_with_feedback(weight, 0, FORMAT, products.astype(np.float32))
    assert found is None or db(weight, found[0]) > 12


def test_codes_are_those_that_feedback_found() -> None:
    model, plan = layers()
    batches = [Batch({"x": correlated(64, 512, 5)}, 64, None)]
    products = channel_products(model, plan, batches)
    known: dict[str, object] = {}
    assigned, rounded = round_weights(model, plan, contract(), known, products)  # type: ignore[arg-type]
    assert len(known) == 1, "the layers share a weight"
    qdq = insert(rounded, assigned, contract())
    (dq,) = [node for node in qdq.graph if node.op_type == "DequantizeLinear"]
    codes, scale, zero_point = (v.const_value.numpy().astype(np.float32) for v in dq.inputs)
    ((weight, params),) = known.values()  # type: ignore[misc]
    real = (codes - spread(zero_point, params, codes.shape)) * spread(scale, params, codes.shape)
    assert np.allclose(real, weight, atol=1e-6)
    again, same = round_weights(model, plan, contract(), known, {})  # type: ignore[arg-type]
    assert again.to_json() == assigned.to_json() and same is not model


def test_without_products_the_model_stays() -> None:
    model, plan = layers()
    assigned, same = round_weights(model, plan, contract(), {}, {})
    assert same is model
    assert sum(bool(node.weight_qparams) for node in assigned.nodes.values()) == 2
