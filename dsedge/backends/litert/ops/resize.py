"""Resize over two axes of space.

ONNX names coordinates and rounding one by one; TFLite has two flags, which fix both. What counts is where each output
is read, so that is computed for the node and for each setting of the flags, and the setting that agrees is written.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.emitter import CHANNELS_LAST, CannotEmit, Emitter, Op, Order
from dsedge.backends.litert.ops.spatial import rescaled, result, source

_FLAGS = ((False, False), (True, False), (False, True))
"""alignCorners, halfPixelCenters: first what needs no new version of the operator."""
_TOLERANCE = 1e-4  # of a pixel


def resize(e: Emitter, node: ir.Node) -> None:
    """Resize: RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR; other nearest ones as a GATHER on each axis."""
    assert node.inputs[0] is not None
    size, out_size = e.shape(node.inputs[0]), e.shape(node.outputs[0])
    text = {name: node.attributes.get_string(name, default) for name, default in _DEFAULTS.items()}
    scales = _scales(e, node, size, out_size, text["keep_aspect_ratio_policy"])
    mode, coordinates = text["mode"], text["coordinate_transformation_mode"]
    if mode not in ("nearest", "linear"):
        raise CannotEmit(f"TFLite has no {mode} interpolation")
    if node.attributes.get_int("antialias", 0) and min(scales) < 1:
        raise CannotEmit("TFLite's resizing has no antialias")
    axes = [a for a in range(len(size)) if size[a] != out_size[a] or scales[a] != 1.0] or [len(size) - 1]
    wanted = {a: _coordinates(coordinates, size[a], out_size[a], scales[a]) for a in axes}
    if mode == "nearest":
        wanted = {a: _rounded(text["nearest_mode"], x) for a, x in wanted.items()}
    wanted = {a: np.clip(x, 0, size[a] - 1) for a, x in wanted.items()}
    order = _order(len(size), axes)
    flags = next((f for f in _FLAGS if all(_agrees(wanted[a], mode, f, size[a], out_size[a]) for a in axes)), None)
    if order is not None and flags is not None:
        _two_axes(e, node, mode, order, flags)
    elif mode == "nearest":
        _gather(e, node, wanted)
    elif order is None:
        raise CannotEmit(f"it interpolates along axes {axes} of {len(size)}, TFLite along two next to each other")
    else:
        raise CannotEmit(f"TFLite interpolates at other places than {coordinates} does at these scales")


def _two_axes(e: Emitter, node: ir.Node, mode: str, order: Order, flags: tuple[bool, bool]) -> None:
    op, kind = _OPERATORS[mode]
    x = source(e, node, order)
    with result(e, node, order) as out, rescaled(e, x, out) as resized:
        shape = e.constant("size", np.array(out.shape[1:3], np.int32))
        options = e.options(kind, alignCorners=flags[0], halfPixelCenters=flags[1])
        e.op(op, [x, shape], [resized], options)


def _gather(e: Emitter, node: ir.Node, wanted: Mapping[int, np.ndarray]) -> None:
    x = e.placed(node, 0)
    out = e.output(node, x.order)
    with rescaled(e, x.tensor, out) as gathered:
        tensor = x.tensor
        for left, (a, places) in zip(reversed(range(len(wanted))), wanted.items(), strict=True):
            axis = x.order.index(a)
            shape = (*tensor.shape[:axis], len(places), *tensor.shape[axis + 1 :])
            picked = e.temporary("picked", shape, tensor) if left else gathered
            indices = e.constant("places", places.astype(np.int32))
            e.op("GATHER", [tensor, indices], [picked], e.options("GatherOptions", axis=axis))
            tensor = picked


_OPERATORS = {
    "nearest": ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
    "linear": ("RESIZE_BILINEAR", "ResizeBilinearOptions"),
}
_DEFAULTS = {
    "mode": "nearest",
    "coordinate_transformation_mode": "half_pixel",
    "nearest_mode": "round_prefer_floor",
    "keep_aspect_ratio_policy": "stretch",
}


def _order(rank: int, axes: list[int]) -> Order | None:
    """The order in which the axes that are resized lie where TFLite has space; None where there is none."""
    if rank in (3, 4) and min(axes, default=2) >= 2:
        return CHANNELS_LAST[rank]
    return (0, 1, 2, 3) if rank == 4 and set(axes) <= {1, 2} else None


def _scales(e: Emitter, node: ir.Node, size: tuple[int, ...], out: tuple[int, ...], policy: str) -> list[float]:
    """How much longer each axis becomes, as ONNX counts."""
    axes = [a % len(size) for a in node.attributes.get_ints("axes", tuple(range(len(size))))]
    scales = [1.0] * len(size)
    given = e.array(node, 2)
    if given is not None and given.size:
        for a, scale in zip(axes, given.tolist(), strict=True):
            scales[a] = float(scale)
        return scales
    sizes = e.array(node, 3)
    if sizes is None:
        raise CannotEmit("it has neither scales nor sizes")
    ratios = [float(n) / size[a] for a, n in zip(axes, sizes.tolist(), strict=True)]
    if policy != "stretch":
        ratios = [min(ratios) if policy == "not_larger" else max(ratios)] * len(axes)
    for a, ratio in zip(axes, ratios, strict=True):
        scales[a] = ratio
    return scales


def _coordinates(mode: str, size: int, out: int, scale: float) -> np.ndarray:
    """Where ONNX reads each output, in pixels of the input, shape [out]; in float32, as ONNX Runtime computes it.

    Raises:
        CannotEmit: for a mode that TFLite's flags never mean.
    """
    i, ratio = np.arange(out, dtype=np.float32), np.float32(scale)
    half = (i + np.float32(0.5)) / ratio - np.float32(0.5)
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and out > 1):
        return half
    if mode == "half_pixel_symmetric":
        return half + np.float32(size / 2 * (1 - out / (scale * size)))
    if mode == "asymmetric":
        return i / ratio
    if mode == "align_corners":
        return i * np.float32(size - 1) / np.float32(max(out - 1, 1))
    if mode == "pytorch_half_pixel":
        return np.zeros(1, np.float32)
    raise CannotEmit(f"TFLite's resizing has no {mode}")


def _rounded(mode: str, x: np.ndarray) -> np.ndarray:
    if mode.startswith("round"):
        half = np.float32(0.5)
        x, mode = (x - half, "ceil") if mode == "round_prefer_floor" else (x + half, "floor")
    return np.asarray(np.floor(x) if mode == "floor" else np.ceil(x))


def _agrees(wanted: np.ndarray, mode: str, flags: tuple[bool, bool], size: int, out: int) -> bool:
    """Whether TFLite reads each output where it is wanted, both clipped to the input."""
    align, half = flags
    scale = np.float32(size - 1) / np.float32(out - 1) if align and out > 1 else np.float32(size) / np.float32(out)
    i, center = np.arange(out, dtype=np.float32), np.float32(0.5 if half else 0)
    x = (i + center) * scale
    if mode == "linear":
        x -= center
    else:
        x = np.floor(x + np.float32(0.5)) if align else np.floor(x)
    return bool(np.all(np.abs(wanted - np.clip(x, 0, size - 1)) < _TOLERANCE))


OPS = {"Resize": Op(resize, codes=(0,))}
