"""Weights that are not numbers, or not as many as they say, and graphs that ask for more memory than there is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from attacks.hostile import BIAS, CLASSES, WEIGHT, Ended, initializer, refused, save, small
from graphs import Net
from onnx import TensorProto, helper, numpy_helper

from dsedge.errors import DsedgeError
from dsedge.frontend import load

Attempt = Callable[..., Ended]
MIB = 2**20


def spoil(proto: onnx.ModelProto, name: str, value: float) -> onnx.ModelProto:
    tensor = initializer(proto, name)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[-1] = value
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return proto


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [WEIGHT, BIAS])
def test_weights_that_are_not_finite(attempt: Attempt, tmp_path: Path, name: str, value: float) -> None:
    model = save(spoil(small(), name, value), tmp_path / "m.onnx")
    refused(attempt(model=model, calib="random"), "DS105", f"'{name}'")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", range(4), ids=["scale", "bias", "mean", "variance"])
def test_batch_normalization(attempt: Attempt, tmp_path: Path, place: int, value: float) -> None:
    net = Net(x=("N", 3, 8, 8))
    statistics = [np.ones(8, np.float32) for _ in range(4)]
    statistics[place][3] = value
    y = net.op("BatchNormalization", net.conv("x", 8), *(net.const(array) for array in statistics))
    model = save(net.proto(net.head(y, CLASSES)), tmp_path / "m.onnx")
    refused(attempt(model=model, calib="random"), "DS105", "NaN or Inf")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_in_the_body_of_an_if(attempt: Attempt, tmp_path: Path, value: float) -> None:
    net = Net(x=("N", 3, 8, 8))
    inner = net.conv("x", 8)

    def body(name: str, fill: float) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.full((8, 8, 1, 1), fill, np.float32), f"weight_{name}")
        node = helper.make_node("Conv", [inner, weight.name], [f"out_{name}"])
        out = helper.make_tensor_value_info(f"out_{name}", TensorProto.FLOAT, None)
        return helper.make_graph([node], name, [], [out], [weight])

    condition = net.const(np.array(True))
    y = net.op("If", condition, then_branch=body("then", 0.1), else_branch=body("else", value))
    net.channels[y] = 8
    model = save(net.proto(net.head(y, CLASSES)), tmp_path / "m.onnx")
    refused(attempt(model=model, calib="random"), "DS105", "'weight_else'")


@pytest.mark.parametrize("wrap", ["Constant", "Identity", "Sqrt"])
def test_outputs_that_are_nan_are_the_models_fault(attempt: Attempt, tmp_path: Path, wrap: str) -> None:
    """No weight of a convolution says so, but what reaches it is NaN: nothing that dsedge changed."""
    net = Net(x=("N", 3, 8, 8))
    inner = net.conv("x", 8)
    filled = np.full((8, 8, 1, 1), -1 if wrap == "Sqrt" else np.inf, np.float32)
    if wrap == "Constant":
        weight = net.op("Constant", value=numpy_helper.from_array(filled))
    else:
        weight = net.op(wrap, net.const(filled))
    y = net.op("Conv", inner, weight)
    net.channels[y] = 8
    model = save(net.proto(net.head(y, CLASSES)), tmp_path / "m.onnx")
    ended = attempt(model=model, calib="random")
    refused(ended, ended.err[6:11], "NaN")
    assert "DS302" not in ended.err and "defect of dsedge" not in ended.err


def test_minus_infinity_in_a_mask_is_meant(attempt: Attempt, tmp_path: Path) -> None:
    net = Net(x=("N", 3, 8, 8))
    mask = np.where(np.tri(8) > 0, 0, -np.inf).astype(np.float32)
    y = net.op("Softmax", net.op("Add", net.conv("x", 32), net.const(mask)), axis=-1)
    net.channels[y] = 32
    ended = attempt(model=save(net.proto(net.head(y, CLASSES)), tmp_path / "m.onnx"), calib="random")
    assert ended.code in (0, 1), ended
    assert (tmp_path / "out" / "bundle" / "manifest.json").is_file()


@pytest.mark.parametrize("kind", ["raw", "typed", "empty", "int4", "external"])
@pytest.mark.parametrize(
    "dims",
    [[8, 3, 3, 4], [8, 3, 3, 2], [2**40], [2**33], [2**33, 2**33, 2**33], [-8, 3, 3, 3], [-1], [-8, -3, 3, 3]],
    ids=str,
)
def test_declared_sizes_are_not_believed(tmp_path: Path, dims: list[int], kind: str) -> None:
    proto = small()
    tensor = initializer(proto)
    del tensor.dims[:]
    tensor.dims.extend(dims)
    if kind != "raw":
        tensor.ClearField("raw_data")
    if kind == "typed":
        tensor.float_data.extend([1.0] * 10)
    if kind == "int4":
        tensor.data_type = TensorProto.INT4
    if kind == "external":
        (tmp_path / "w.bin").write_bytes(bytes(500))
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    model = save(proto, tmp_path / "m.onnx")
    tracemalloc.start()
    try:
        with pytest.raises(DsedgeError) as caught:
            load(model)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
    assert caught.value.code in ("DS102", "DS104")
    assert "MemoryError" not in str(caught.value)


def test_a_declared_size_that_lies_is_one_error(attempt: Attempt, tmp_path: Path) -> None:
    proto = small()
    tensor = initializer(proto)
    tensor.ClearField("raw_data")
    tensor.dims[0] = 2**40
    refused(attempt(model=save(proto, tmp_path / "m.onnx"), calib="random"), "DS102", WEIGHT)


BOMBS: dict[str, Callable[[Net, str], str]] = {
    "ConstantOfShape": lambda net, y: net.op("ConstantOfShape", net.ints(2**20, 2**20)),
    "Expand": lambda net, y: net.op("Expand", net.const([1.0]), net.ints(2**20, 2**20)),
    "Tile": lambda net, y: net.op("Tile", y, net.ints(1, 1, 2**20, 2**20)),
    "Pad": lambda net, y: net.op("Pad", y, net.ints(0, 0, 2**30, 2**30, 0, 0, 2**30, 2**30)),
    "Resize": lambda net, y: net.op("Resize", y, "", net.const([1.0, 1.0, 2.0**20, 2.0**20])),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_graph_that_needs_terabytes(attempt: Attempt, tmp_path: Path, name: str) -> None:
    """The runtime refuses the allocation, in the middle of a run: that is no error inside of dsedge."""
    net = Net(x=("N", 3, 8, 8))
    y = net.conv("x", 8)
    total = net.op("ReduceSum", BOMBS[name](net, y), keepdims=0)
    out = net.op("Add", y, total)
    model = save(net.proto(out), tmp_path / "m.onnx")
    refused(attempt(model=model, calib="random"), "DS122", "does not run")
