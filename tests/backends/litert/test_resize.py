"""Resize: the flags of TFLite that read where ONNX reads, and what is done where none do."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.backends.litert.harness import check_float, check_int8, node, refused

SHAPE = (1, 3, 6, 8)
COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
ROUNDING = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
NEAREST, GATHERED = {"RESIZE_NEAREST_NEIGHBOR"}, {"GATHER"}


def resize(sizes: list[float], shape: tuple[int, ...] = SHAPE, **attributes: Any) -> Any:
    """A Resize to `sizes`, or by scales where they are not integers."""
    if all(isinstance(n, int) for n in sizes):
        return node("Resize", [shape, None, None, np.array(sizes, np.int64)], **attributes)
    return node("Resize", [shape, None, np.array(sizes, np.float32)], **attributes)


def written(ops: list[str]) -> set[str]:
    """Without what the graph's own inputs and outputs need."""
    return set(ops) - {"TRANSPOSE", "RESHAPE", "QUANTIZE", "DEQUANTIZE"}


@pytest.mark.parametrize(("coordinates", "rounding"), list(product(COORDINATES, ROUNDING)))
def test_nearest(coordinates: str, rounding: str) -> None:
    """Every mode, exactly."""
    how = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    for sizes in ([1.0, 1.0, 2.0, 2.0], [1, 3, 13, 5]):
        model = resize(sizes, **how)
        assert written(check_float(model, tolerance=0).ops) in (NEAREST, GATHERED)
        check_int8(model, same=True, steps=0)


def test_nearest_as_exporters_write_it() -> None:
    """One operator, whatever the sizes."""
    for small, large in ((7, 21), (13, 39), (20, 100), (5, 7), (80, 160)):
        model = resize([1, 1, large, large], (1, 1, small, small), **ASYMMETRIC)
        assert written(check_float(model, tolerance=0).ops) == NEAREST


ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_linear(coordinates: str) -> None:
    """By an integer, to a size, to a single pixel."""
    for sizes in ([1.0, 1.0, 2.0, 2.0], [1, 3, 13, 5], [1, 3, 1, 1]):
        model = resize(sizes, mode="linear", coordinate_transformation_mode=coordinates)
        assert written(check_float(model).ops) == {"RESIZE_BILINEAR"}
        check_int8(model, same=True, allow=["RESHAPE"])


@pytest.mark.parametrize(
    ("sizes", "shape", "attributes", "ops"),
    [
        ([1, 2 * 6, 2 * 6, 3], (1, 6, 6, 3), {"mode": "linear"}, {"RESIZE_BILINEAR"}),
        ([1.0, 1.0, 2.0], (1, 3, 6), ASYMMETRIC, NEAREST),
        ([1.0, 1.0, 2.0, 2.0, 2.0], (1, 3, 4, 4, 4), ASYMMETRIC, GATHERED),
        ([1.0, 2.0, 1.0, 2.0], SHAPE, ASYMMETRIC, GATHERED),
        (
            [12, 20],
            SHAPE,
            {"mode": "linear", "keep_aspect_ratio_policy": "not_larger", "axes": [2, 3]},
            {"RESIZE_BILINEAR"},
        ),
    ],
    ids=["channels last", "sequence", "volume", "channels", "aspect ratio"],
)
def test_axes(sizes: list[float], shape: tuple[int, ...], attributes: dict[str, Any], ops: set[str]) -> None:
    """Other axes than the last two of four."""
    model = resize(sizes, shape, **attributes)
    assert written(check_float(model).ops) == ops
    assert written(check_int8(model, same=True).ops) == ops


def test_scales_of_its_own() -> None:
    """It interpolates under the scale of its input: a range that is cut before would bend what lies between."""
    check_int8(resize([1.0, 1.0, 2.0, 2.0], mode="linear"))


def test_refusals() -> None:
    """Each names the mode."""
    refused(resize([1.0, 1.0, 2.0, 2.0], mode="cubic"), "cubic")
    refused(resize([1.0, 1.0, 0.5, 0.5], mode="linear", antialias=1), "antialias")
    refused(resize([1.0, 1.0, 1.7, 1.3], mode="linear"), "half_pixel")
    refused(resize([1.0, 1.0, 2.0, 2.0, 2.0], (1, 3, 4, 4, 4), mode="linear"), "axes [2, 3, 4] of 5")
    region = np.array([0, 0, 0, 0, 1, 1, 0.5, 0.5], np.float32)
    crop = [SHAPE, region, None, np.array([1, 3, 6, 8], np.int64)]
    refused(node("Resize", crop, coordinate_transformation_mode="tf_crop_and_resize"), "tf_crop_and_resize")
