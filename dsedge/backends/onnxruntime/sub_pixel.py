"""A transposed convolution as a convolution that computes all its sub-pixels, and a DepthToSpace that spreads them.

With stride s, the outputs whose coordinates have the same remainder modulo s are an ordinary convolution of the input
with every s-th tap of the kernel. So a convolution with s * s times the channels, whose kernel is about the s-th part
of the old one on each side, computes them all (Shi et al., "Is the deconvolution layer the same as a convolutional
layer?", 2016). It multiplies exactly the same numbers where s divides the kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dsedge.model import static_shape
from dsedge.passes.edit import REPLACES, array, constant, fresh, is_constant, label, value_names
from dsedge.passes.match import only_user

_LEAST_CHANNELS = 4
"""Layers with fewer output channels are slower as INT8 convolutions; `tools/transposed_threshold.py` measures it."""

_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Axis:
    """How one spatial axis is computed: output o, shifted by `crop`, is sub-pixel r of position q with o + crop =
    q * stride + r; it reads the inputs q + low, q + low + 1, ...

    Attributes:
        taps: for each sub-pixel the tap of the old kernel that each input meets, -1 for none; [stride, new kernel].
        pads: of the convolution, at the begin and at the end.
        crop: how many outputs to drop at the begin.
        surplus: and how many at the end.
    """

    taps: npt.NDArray[np.int64]
    pads: tuple[int, int]
    crop: int
    surplus: int


def split_axis(kernel: int, stride: int, pads: tuple[int, int], output_padding: int) -> Axis:
    """The sub-pixel form of one axis, with the shortest kernel and then the least to crop.

    Args:
        kernel: of the transposed convolution; dilation 1.
        stride: of it.
        pads: what it drops at the begin and at the end of its result.
        output_padding: what it adds at the end.
    """
    begin, end = pads
    found: list[tuple[int, int, int, int]] = []
    for crop in range(begin + stride):
        # Tap m of the kernel brings input i to the place i * stride + m - begin of the output.
        # So sub-pixel r of position q reads input q + d through tap r + shift - d * stride.
        shift = begin - crop
        low, high = -((kernel - 1 - shift) // stride), (stride - 1 + shift) // stride
        if low <= 0:
            found.append((high - low, crop, low, high))
    _, crop, low, high = min(found)
    taps = np.arange(stride)[:, None] + begin - crop - stride * np.arange(low, high + 1)
    # For n inputs the result has length (n - 1) * stride + grown, so at least n - 1 + positions are to be computed.
    grown = kernel - begin - end + output_padding
    positions = math.ceil((crop + grown) / stride)
    after = max(0, positions - 1 + high)
    computed = after - high + 1
    return Axis(
        np.where((taps >= 0) & (taps < kernel), taps, -1), (-low, after), crop, computed * stride - crop - grown
    )


def obstacle(node: ir.Node) -> str | None:
    """Why a node is no ConvTranspose that has a sub-pixel form here, or None when it has one."""
    if node.op_type != "ConvTranspose" or node.domain:
        return "it is no ConvTranspose"
    weight = static_shape(node.inputs[1]) if is_constant(node.inputs[1]) else None
    if weight is None or len(weight) != 4:
        return "its weight is no constant of two spatial axes"
    if weight[1] < _LEAST_CHANNELS:
        return f"with {weight[1]} output channels an INT8 convolution in its place would be slower"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not is_constant(bias):
        return "its bias is not a constant"
    if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes:
        return "its padding follows from the shape of its output"
    if node.attributes.get_int("group", 1) > 1:
        return "its channels are in groups"
    if set(node.attributes.get_ints("dilations", [1])) != {1}:
        return "its kernel is dilated"
    strides = node.attributes.get_ints("strides", [1, 1])
    if strides[0] != strides[1] or strides[0] < 2:
        return "DepthToSpace needs one stride of 2 or more for both axes"
    return None


def as_convolution(model: ir.Model, node: ir.Node) -> None:
    """Replace a ConvTranspose without `obstacle` by Conv and DepthToSpace, and a Slice where there is a surplus.

    A Relu or Clip that alone reads it comes before the DepthToSpace, so that it stays part of one INT8 kernel.
    """
    graph, taken = model.graph, value_names(model)
    source, kernel, bias = node.inputs[0], node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert source is not None and kernel is not None and source.dtype is not None
    stride = node.attributes.get_ints("strides", [])[0]
    pads, extra = node.attributes.get_ints("pads", [0] * 4), node.attributes.get_ints("output_padding", [0] * 2)
    weight, name = array(kernel), label(node)
    axes = [split_axis(weight.shape[2 + i], stride, (pads[i], pads[2 + i]), extra[i]) for i in range(2)]
    constants = [constant(graph, f"{name}_sub_pixel_weight", _sub_pixels(weight, *axes), taken)]
    if bias is not None:
        repeated = np.tile(array(bias), stride * stride)
        constants.append(constant(graph, f"{name}_sub_pixel_bias", repeated, taken))
    padding = {"pads": [axis.pads[side] for side in (0, 1) for axis in axes]}
    conv = ir.node("Conv", [source, *constants], padding, name=f"{name}_sub_pixel")
    spread = ir.node("DepthToSpace", conv.outputs, {"blocksize": stride, "mode": "DCR"}, name=f"{name}_depth_to_space")
    added = [spread]
    if any(axis.crop or axis.surplus for axis in axes):
        starts, ends = [axis.crop for axis in axes], [-axis.surplus or _END for axis in axes]
        bounds = [
            constant(graph, f"{name}_crop_{what}", np.array(numbers, np.int64), taken)
            for what, numbers in (("starts", starts), ("ends", ends), ("axes", [2, 3]))
        ]
        added.append(ir.node("Slice", [spread.outputs[0], *bounds], name=f"{name}_crop"))
    for new in (conv, *added):
        new.metadata_props[REPLACES] = f"ConvTranspose {name}"
    _put(conv, added, node, taken)


def _put(conv: ir.Node, added: list[ir.Node], node: ir.Node, taken: set[str]) -> None:
    """Put the new nodes where `node` was; an activation that alone reads it goes between them."""
    graph, old = node.graph, node.outputs[0]
    assert graph is not None
    activation = only_user(old, "Relu", "Clip")
    result, final = old if activation is None else activation.outputs[0], added[-1].outputs[0]
    result.replace_all_uses_with(final, replace_graph_outputs=True)
    final.name, final.type, result.name = result.name, result.type, None
    graph.insert_after(node, conv)
    if activation is None:
        graph.insert_after(conv, added)
    else:
        activation.replace_input_with(0, conv.outputs[0])
        added[0].replace_input_with(0, result)
        result.name = fresh(f"{conv.name}_activated", taken)
        graph.insert_after(activation, added)
    for new in (conv, *added[:-1]):
        new.outputs[0].name, new.outputs[0].type = fresh(new.name or "", taken), final.type
    graph.remove(node, safe=True)


def _sub_pixels(weight: npt.NDArray[Any], rows: Axis, columns: Axis) -> npt.NDArray[Any]:
    """The weight [C, M, h, w] as [stride * stride * M, C, new h, new w], channels innermost."""
    padded = np.pad(weight, [(0, 0), (0, 0), (0, 1), (0, 1)])  # tap -1 is a zero
    picked = padded[:, :, rows.taps[:, None, :, None], columns.taps[None, :, None, :]]
    ordered = picked.transpose(2, 3, 1, 0, 4, 5)
    return np.ascontiguousarray(ordered.reshape(-1, *ordered.shape[3:]))
