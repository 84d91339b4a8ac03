"""The runner's LiteRT loader, on files of a few operators written with the schema."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dsedge.bench.runner import load_litert
from dsedge.quant.plan import QParams

pytest.importorskip("ai_edge_litert")

from dsedge.backends.litert.flatbuffer import Flatbuffer

SHAPE = (2, 3)
SCALE, ZERO_POINT = 0.5, -3
X = np.array([[-0.25, 0.25, 0.75], [-1000.0, 1000.0, 0.3]], np.float32)


def parameters(dtype: str) -> QParams:
    """The same real numbers for both: uint8 codes are 128 higher."""
    return QParams(np.array(SCALE, np.float32), np.array(ZERO_POINT + 128 * (dtype == "uint8")), dtype)


@pytest.fixture(params=["int8", "uint8"])
def codes(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, QParams]:
    """Two inputs, three outputs: `second` as it is, where `first` is greatest, and `first` in another shape."""
    params = parameters(request.param)
    file = Flatbuffer()
    first = file.activation("tensor_0", SHAPE, request.param, params)
    second = file.activation("tensor_1", SHAPE, request.param, params)
    same = file.activation("tensor_2", SHAPE, request.param, params)
    greatest = file.activation("tensor_3", (2,), "int32")
    flat = file.activation("tensor_4", (6,), request.param, params)
    axis = file.constant("axis", np.array(1, np.int32))
    shapes = [file.constant(f"shape_{rank}", np.array(s, np.int32)) for rank, s in ((1, (6,)), (2, SHAPE))]
    arg_max = file.schema.ArgMaxOptionsT()
    arg_max.outputType = file.schema.TensorType.INT32
    file.operator("ARG_MAX", 2, [first, axis], [greatest], arg_max)
    file.operator("RESHAPE", 1, [first, shapes[0]], [flat], file.schema.ReshapeOptionsT())
    file.operator("RESHAPE", 1, [second, shapes[1]], [same], file.schema.ReshapeOptionsT())
    outputs = {"z_same": same, "greatest": greatest, "a_flat": flat}
    path = tmp_path / "model.tflite"
    path.write_bytes(file.serialize({"z_first": first, "a_second": second}, outputs, {}))
    return path, params


def test_real_numbers_in_and_out(codes: tuple[Path, QParams]) -> None:
    """By the signature's names, in the file's order; codes round half to even and saturate."""
    path, _ = codes
    second = np.array([[0.5, 1.0, 1.5], [2.0, 2.5, 3.0]], np.float32)
    same, greatest, flat = load_litert(path, 1)({"a_second": second, "z_first": X})
    lowest, highest = -128 - ZERO_POINT, 127 - ZERO_POINT
    np.testing.assert_array_equal(flat, np.array([0, 0, 2, lowest, highest, 1]) * SCALE)
    np.testing.assert_array_equal(same, second)
    np.testing.assert_array_equal(greatest, [2, 1])
    assert (same.dtype, greatest.dtype, same.shape) == (np.float32, np.int32, SHAPE)


def test_codes_are_taken_as_they_are(codes: tuple[Path, QParams]) -> None:
    path, params = codes
    given = np.arange(6, dtype=params.dtype).reshape(SHAPE)
    same, *_ = load_litert(path)({"z_first": given, "a_second": given})
    np.testing.assert_array_equal(same, (given.astype(np.float32) - params.zero_point) * np.float32(SCALE))


def test_outputs_own_their_memory(codes: tuple[Path, QParams]) -> None:
    run = load_litert(codes[0], 1)
    before = run({"z_first": X, "a_second": X})
    kept = [array.copy() for array in before]
    run({"z_first": -X, "a_second": -X})
    for array, copy in zip(before, kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"z_first": X}, r"takes the inputs \['a_second', 'z_first'\], not \['z_first'\]"),
        ({"z_first": X, "tensor_1": X}, r"not \['tensor_1', 'z_first'\]"),
        ({"z_first": X, "a_second": X[:1]}, r"'a_second': .*int8 codes, or float, \[2, 3\], not float32 \[1, 3\]"),
        ({"z_first": X.astype(np.int64), "a_second": X}, r"'z_first': .* not int64 \[2, 3\]"),
    ],
)
def test_wrong_feeds(codes: tuple[Path, QParams], feeds: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_litert(codes[0], 1)(feeds)


def test_a_run_leaves_no_state_behind(tmp_path: Path) -> None:
    file = Flatbuffer()
    x, y = (file.activation(name, (1, 2), "float32") for name in "xy")
    weights = [file.constant(name, np.eye(2, dtype=np.float32)) for name in ("weights", "recurrent")]
    bias = file.constant("bias", np.zeros(2, np.float32))
    state = file.variable("state", (1, 2), "float32")
    file.operator("RNN", 1, [x, *weights, bias, state], [y], file.schema.RNNOptionsT())
    path = tmp_path / "model.tflite"
    path.write_bytes(file.serialize({"x": x}, {"y": y}, {}))
    run = load_litert(path, 1)
    given = np.array([[1.0, -2.0]], np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(run({"x": given})[0], given)


def test_a_missing_runtime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ai_edge_litert.interpreter", "tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install ai-edge-litert .* pip install tflite-runtime==2\.14\.0"):
        load_litert("model.tflite")
