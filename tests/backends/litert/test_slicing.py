"""Slice, Split, Concat and Pad: in float, as codes, and of integers and booleans."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.backends.litert.harness import check_float, check_int8, node, refused

LAST = 2**63 - 1


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES = {
    "slice": (node("Slice", [(1, 8, 9, 4), ints(1, -5), ints(LAST, -1), ints(1, -2)]), ["SLICE"]),
    "slice-all": (node("Slice", [(8, 9), ints(0, -99), ints(LAST, 9)]), []),
    "slice-steps": (node("Slice", [(8, 9, 4), ints(1, 0), ints(8, LAST), ints(0, 1), ints(2, 3)]), ["STRIDED_SLICE"]),
    "slice-back": (node("Slice", [(8, 9), ints(-1), ints(-LAST), ints(1), ints(-1)]), ["STRIDED_SLICE"]),
    "slice-back-part": (node("Slice", [(8, 9), ints(7), ints(2), ints(1), ints(-2)]), ["STRIDED_SLICE"]),
    "slice-5": (node("Slice", [(2, 3, 8, 9, 4), ints(1, 0), ints(8, 9), ints(1, 3), ints(1, 3)]), ["STRIDED_SLICE"]),
    "pad": (node("Pad", [(1, 6, 4, 3), ints(0, 1, 2, 0, 0, 0, 3, 1)]), ["PAD"]),
    "pad-value": (node("Pad", [(1, 6, 4), ints(0, 1, 2, 0, 0, 0), np.float32(1.3)]), ["PADV2"]),
    "pad-least": (node("Pad", [(1, 6, 4), ints(0, 1, 2, 0, 0, 0), np.finfo(np.float32).min]), ["PADV2"]),
    "pad-axes": (node("Pad", [(1, 2, 6, 4, 3), ints(1, 2), None, ints(-2)]), ["PAD"]),
    "pad-and-cut": (node("Pad", [(1, 6, 4, 3), ints(0, -1, 2, 0, 0, 0, -3, 1)]), ["SLICE", "PAD"]),
    "cut": (node("Pad", [(1, 6, 4, 3), ints(0, -1, 0, 0, 0, 0, -3, 0)]), ["SLICE"]),
    "pad-nothing": (node("Pad", [(6, 4), ints(0, 0, 0, 0)]), []),
    "reflect": (node("Pad", [(1, 6, 4, 3), ints(0, 1, 2, 0, 0, 0, 3, 1)], mode="reflect"), ["MIRROR_PAD"]),
    "edge": (node("Pad", [(1, 6, 4), ints(0, 1, 2, 0, 3, 0)], mode="edge"), ["GATHER", "GATHER"]),
    "wrap": (node("Pad", [(1, 6, 4), ints(0, 1, 2, 0, 3, 0)], mode="wrap"), ["GATHER", "GATHER"]),
}

SPLITS = {
    "equal": (node("Split", [(2, 6, 4)], 3, axis=1, num_outputs=3), "SPLIT"),
    "given": (node("Split", [(2, 6, 4), ints(1, 2, 3)], 3, axis=-2), "SPLIT_V"),
    "rest": (node("Split", [(2, 7, 4)], 4, axis=1, num_outputs=4), "SPLIT_V"),
}


@pytest.mark.parametrize("name", CASES)
def test_float(name: str) -> None:
    model, ops = CASES[name]
    assert check_float(model, tolerance=0).ops == ops


@pytest.mark.parametrize("name", CASES)
def test_codes_are_copied(name: str) -> None:
    model, ops = CASES[name]
    assert check_int8(model, same=True, steps=0).ops == ["QUANTIZE", *ops, "DEQUANTIZE"]


@pytest.mark.parametrize("name", SPLITS)
def test_split(name: str) -> None:
    model, op = SPLITS[name]
    assert check_float(model, tolerance=0).ops == [op]
    found = check_int8(model, same=True, steps=0)
    assert found.ops == ["QUANTIZE", op, *["DEQUANTIZE"] * len(model.graph.output)]


def test_of_parts_that_nothing_reads_none_is_written() -> None:
    model = node("Split", [(2, 6, 4)], 3, axis=1, num_outputs=3)
    del model.graph.output[2], model.graph.output[0]
    assert check_float(model).ops == ["SLICE"]
    assert check_int8(model, same=True, steps=0).ops == ["QUANTIZE", "SLICE", "DEQUANTIZE"]
    model = node("Split", [(2, 6, 4)], 3, axis=1, num_outputs=3)
    del model.graph.output[1]
    assert check_float(model).ops == ["SPLIT"]
    assert check_int8(model, same=True, steps=0).ops == ["QUANTIZE", "SPLIT", "DEQUANTIZE", "DEQUANTIZE"]


def test_concat() -> None:
    model = node("Concat", [(2, 6, 4), (2, 1, 4), (2, 3, 4)], axis=-2)
    assert check_float(model, tolerance=0).ops == ["CONCATENATION"]
    assert check_int8(model, same=True, steps=0).ops == [*["QUANTIZE"] * 3, "CONCATENATION", "DEQUANTIZE"]
    assert "CONCATENATION" in check_int8(model).ops  # inputs under other scales are requantized
    alone = node("Concat", [(2, 6, 4)], axis=0)
    assert check_float(alone, tolerance=0).ops == []


def test_concat_with_a_constant() -> None:
    model = node("Concat", [np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 3, 4), (2, 3, 4)], axis=0)
    assert check_float(model, tolerance=0).ops == ["CONCATENATION"]
    found = check_int8(model, same=True, weights={0: None})  # which has a scale of its own
    assert found.ops == ["QUANTIZE", "QUANTIZE", "CONCATENATION", "DEQUANTIZE"]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.bool_, np.int8, np.uint8])
def test_other_types(dtype: type) -> None:
    shape = (1, 6, 4, 3)
    check_float(node("Slice", [shape, ints(1, -3), ints(LAST, -1), ints(1, -2)], dtype=dtype))
    check_float(node("Slice", [shape, ints(-1), ints(-LAST), ints(1), ints(-2)], dtype=dtype))
    check_float(node("Split", [shape], 3, axis=1, num_outputs=3, dtype=dtype))
    check_float(node("Concat", [shape, shape], axis=1, dtype=dtype))
    for mode in ("constant", "reflect", "edge"):
        check_float(node("Pad", [shape, ints(0, 1, 2, 0, 0, 0, 3, 1)], mode=mode, dtype=dtype))
    check_float(node("Pad", [shape, ints(0, 1, 2, 0, 0, 0, 3, 1), np.array(1, dtype)], dtype=dtype))


def test_six_axes_are_refused() -> None:
    refused(node("Slice", [(2, 2, 2, 2, 2, 4), ints(1), ints(3), ints(5)]), "cuts and pads up to 5 axes, it has 6")
    refused(node("Pad", [(2,) * 6, ints(*[1] * 12)]), "cuts and pads up to 5 axes, it has 6")


def test_bounds_that_are_computed_are_refused() -> None:
    model = node("Slice", [(8, 9), ints(1), ints(3)])
    del model.graph.initializer[0]
    model.graph.input.append(onnx.helper.make_tensor_value_info("x1", onnx.TensorProto.INT64, (1,)))
    refused(model, "input 1 is computed at run time")
