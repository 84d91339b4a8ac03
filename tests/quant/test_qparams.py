from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dsedge.quant.contract import NumberFormat
from dsedge.quant.plan import QParams
from dsedge.quant.qparams import activation_qparams, quantize, quantize_bias, weight_qparams
from dsedge.session import open_session

U8, S8 = NumberFormat("uint8", symmetric=False), NumberFormat("int8", symmetric=False)
U8_SYMMETRIC, S8_SYMMETRIC = NumberFormat("uint8", symmetric=True), NumberFormat("int8", symmetric=True)
S7 = NumberFormat("int8", symmetric=True, bits=7)
RNG = np.random.default_rng(0)
RANGES = [
    *[(-1.0, 1.0), (0.0, 6.0), (-3.0, 0.0), (2.0, 5.0), (-7.0, -2.0), (0.0, 0.0), (-1e-45, 1e-45), (-3.4e38, 3.4e38)],
    *((float(a), float(b)) for a, b in np.sort(RNG.standard_normal((40, 2)) * 10.0 ** RNG.integers(-6, 6, (40, 1)))),
]


def dequantize(codes: np.ndarray, params: QParams) -> np.ndarray:
    shape = [1] * codes.ndim
    if params.axis is not None:
        shape[params.axis] = -1
    return (codes.astype(np.float64) - params.zero_point.reshape(shape)) * params.scale.reshape(shape).astype(
        np.float64
    )


def test_limits() -> None:
    limits = [f.limits for f in (U8, S8, U8_SYMMETRIC, S8_SYMMETRIC, S7)]
    assert limits == [(0, 255), (-128, 127), (0, 255), (-127, 127), (-63, 63)]


@pytest.mark.parametrize("format", [U8, S8, U8_SYMMETRIC, S8_SYMMETRIC], ids=str)
def test_zero_is_exact_and_the_ends_are_within_a_step(format: NumberFormat) -> None:
    for low, high in RANGES:
        params = activation_qparams(low, high, format)
        assert params.scale.shape == params.zero_point.shape == ()
        assert params.scale.dtype == np.float32
        assert params.dtype == str(params.zero_point.dtype) == format.dtype
        assert np.isfinite(params.scale)
        assert params.scale > 0
        assert format.limits[0] <= params.zero_point <= format.limits[1]
        ends = np.array([low, 0.0, high])
        got = dequantize(quantize(ends, params, format), params)
        assert got[1] == 0.0
        np.testing.assert_allclose(got, ends, rtol=0, atol=float(params.scale) * (0.5 + 1e-4))
        if format.symmetric:
            assert params.zero_point == (0 if format.dtype == "int8" else 128)


def test_where_nothing_but_zero_was_seen_the_scale_is_an_ordinary_one() -> None:
    """One near zero would make a product with it far too great, and its bias too large for 32 bits."""
    for dtype in ("int8", "uint8"):
        found = activation_qparams(0.0, 0.0, NumberFormat(dtype, symmetric=False))
        assert 0.001 < float(found.scale) < 0.1


@pytest.mark.parametrize("format", [U8, S8], ids=str)
def test_quantize_is_what_the_runtime_executes(format: NumberFormat) -> None:
    for low, high in RANGES:
        params = activation_qparams(low, high, format)
        steps = np.arange(-300, 600) / 2  # every code, every tie between two, and beyond both ends
        x = np.concatenate([steps * params.scale, RNG.uniform(2 * low - 1, 2 * high + 1, 500)])
        x = np.clip(x, -3.4e38, 3.4e38).astype(np.float32)
        np.testing.assert_array_equal(quantize(x, params, format), _quantize_linear(x, params))


def test_quantize_per_channel_is_what_the_runtime_executes() -> None:
    weight = (RNG.standard_normal((3, 8, 5)) * 10.0 ** RNG.integers(-9, 4, (1, 8, 1))).astype(np.float32)
    params = weight_qparams(weight, 1, S8_SYMMETRIC)
    assert params.scale.shape == (8,)
    np.testing.assert_array_equal(quantize(weight, params, S8_SYMMETRIC), _quantize_linear(weight, params))


def _quantize_linear(x: np.ndarray, params: QParams) -> np.ndarray:
    kind = onnx.helper.np_dtype_to_tensor_dtype(params.zero_point.dtype)
    attributes = {} if params.axis is None else {"axis": params.axis}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **attributes)],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [onnx.helper.make_tensor_value_info("y", kind, x.shape)],
        [onnx.numpy_helper.from_array(params.scale, "s"), onnx.numpy_helper.from_array(params.zero_point, "z")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    (y,) = open_session(ir.from_proto(model), threads=1).run(None, {"x": x})
    return y


@pytest.mark.parametrize("format", [U8, S8], ids=str)
def test_saturation_implements_a_clip(format: NumberFormat) -> None:
    """ONNX Runtime drops a Clip before a quantizer only if no code stands for a value above its limit."""
    for high in np.concatenate([[6.0, 1.0, 127.5], RNG.uniform(1e-3, 100, 5000)]).astype(np.float32):
        params = activation_qparams(0.0, float(high), format)
        assert params.zero_point == format.limits[0]
        greatest = np.float32(params.scale * np.float32(255))
        assert greatest <= high
        assert greatest > high * np.float32(1 - 1e-6)


@pytest.mark.parametrize(("format", "top"), [(S8_SYMMETRIC, 127), (S7, 63)], ids=str)
def test_the_greatest_weight_of_a_channel_takes_the_greatest_code(format: NumberFormat, top: int) -> None:
    weight = (RNG.standard_normal((16, 4, 3, 3)) * 10.0 ** RNG.integers(-4, 4, (16, 1, 1, 1))).astype(np.float32)
    per_channel = quantize(weight, weight_qparams(weight, 0, format), format)
    assert (np.abs(per_channel.astype(int)).max(axis=(1, 2, 3)) == top).all()
    assert np.abs(quantize(weight, weight_qparams(weight, None, format), format).astype(int)).max() == top


@pytest.mark.parametrize("axis", [0, None])
def test_biases_of_dead_channels_fit_32_bits(axis: int | None) -> None:
    weight = RNG.standard_normal((4, 8)).astype(np.float32)
    weight[0], weight[1] = 0.0, 1e-20
    bias, input_scale = np.array([1e4, -1e4, 3.0, 0.0], np.float32), 1e-4
    params = weight_qparams(weight, axis, S8_SYMMETRIC, bias=bias, input_scale=input_scale)
    codes, scale = quantize_bias(bias, input_scale, params.scale)
    assert codes.dtype == np.int32
    assert codes.shape == bias.shape
    assert scale.shape == params.scale.shape
    assert (scale >= np.finfo(np.float32).tiny).all(), "a runtime may flush subnormal scales to zero"
    np.testing.assert_array_equal(scale, np.float32(input_scale) * params.scale)
    np.testing.assert_allclose(codes * scale.astype(np.float64), bias, rtol=1e-6, atol=float(np.max(scale)))


def test_a_bias_that_does_not_fit_saturates() -> None:
    codes, _ = quantize_bias(np.array([1e30, -1e30]), 1e-3, np.array([1e-3, 1e-3], np.float32))
    assert codes.tolist() == [2**31 - 1, -(2**31)]
