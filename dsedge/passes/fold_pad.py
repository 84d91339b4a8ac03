"""Pad before a convolution or a pool."""

from __future__ import annotations

import math

import onnx_ir as ir

from dsedge.model import dims
from dsedge.passes.base import Pass
from dsedge.passes.edit import ints, label, nodes
from dsedge.passes.match import made_by, remove_unread, scalar

_KEEPS_SIGN = ("MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout", "Reshape", "Transpose", "Slice")


class FoldPad(Pass):
    """Folds Pad into the `pads` of the Conv, AveragePool or MaxPool behind it.

    What:
        Zeros around the spatial axes are added to the padding of every Conv that reads them, to that of an AveragePool,
        which from then on counts them (count_include_pad), and to that of a MaxPool if what is padded is nowhere
        negative, or padded with minus infinity. auto_pad becomes explicit padding.
    Why:
        TensorFlow and models with odd paddings pad in a node of their own. Kernels pad for free; the node copies the
        feature map, and no runtime pads in INT8 without a copy.
    When not:
        The mode is not "constant" or the value another one, the batch or channels are padded, something is cropped,
        auto_pad is SAME_* with unknown shapes, the window of a pool could lie in the padding altogether, or a pool
        rounds up its output (ceil_mode) or counts its own padding differently.
    Cost:
        Linear in nodes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Folds each padding into each of its consumers, and notes those that keep it."""
        modified = False
        for pad in nodes(model):
            if pad.op_type != "Pad":
                continue
            amounts = _amounts(pad)
            if isinstance(amounts, str):
                self.notes.append(f"{label(pad)} not folded: {amounts}")
                continue
            for user in list(dict.fromkeys(use.node for use in pad.outputs[0].uses())):
                reason = _fold(pad, user, amounts)
                if reason:
                    self.notes.append(f"{label(pad)} not folded into {label(user)}: {reason}")
                modified |= reason is None
            remove_unread(pad)
        return ir.passes.PassResult(model, modified)


def _amounts(pad: ir.Node) -> list[int] | str:
    """How much is added before each spatial axis and then behind each, or why a padding cannot be folded."""
    shape = dims(pad.inputs[0]) if pad.inputs[0] is not None else None
    pads = ints(pad.inputs[1]) if len(pad.inputs) > 1 else None
    if shape is None or pads is None:
        return "its rank or amounts are not known"
    if pad.attributes.get_string("mode", "constant") != "constant":
        return f"its mode is {pad.attributes.get_string('mode')}"
    rank = len(shape)
    given = pad.inputs[3] if len(pad.inputs) > 3 else None
    axes = list(range(rank)) if given is None else ints(given)
    if axes is None or len(pads) != 2 * len(axes):
        return "its axes are not constant"
    begin, end = [0] * rank, [0] * rank
    for axis, before, behind in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        begin[axis], end[axis] = before, behind
    if min(begin + end, default=0) < 0:
        return "it crops"
    if rank < 3 or any(begin[:2] + end[:2]):
        return "it pads other axes than those of space"
    return begin[2:] + end[2:]


def _fold(pad: ir.Node, user: ir.Node, amounts: list[int]) -> str | None:
    """Adds the amounts to the padding of `user`, or says why not."""
    source, value = pad.inputs[0], pad.inputs[2] if len(pad.inputs) > 2 else None
    number = 0.0 if value is None else scalar(value)
    if user.domain != "" or user.op_type not in ("Conv", "AveragePool", "MaxPool") or user.graph is not pad.graph:
        return f"{user.op_type} has no padding of its own"
    if user.inputs[0] is not pad.outputs[0] or user.inputs.count(pad.outputs[0]) > 1:
        return "it is not padded where it is an input"
    kernel = _kernel(user)
    own = _own_pads(user, kernel) if kernel is not None else None
    if kernel is None or own is None:
        return "its own padding is not known"
    pads = [a + b for a, b in zip(own, amounts, strict=True)]
    if user.op_type != "Conv":
        if user.attributes.get_int("ceil_mode", 0):
            return "it rounds its output up"
        if any(p >= k for p, k in zip(pads, kernel * 2, strict=True)):
            return "its window could lie in the padding altogether"
    if user.op_type == "MaxPool":
        if number != -math.inf and not (number == 0.0 and _not_negative(source)):
            return "the padding could be the greatest value of its window"
    elif number != 0.0:
        return f"it is padded with {'a computed value' if number is None else number}"
    if user.op_type == "AveragePool":
        if any(own) and not user.attributes.get_int("count_include_pad", 0):
            return "it does not count its own padding"
        user.attributes.add(ir.AttrInt64("count_include_pad", 1))
    user.attributes.pop("auto_pad", None)
    user.attributes.add(ir.AttrInt64s("pads", pads))
    user.replace_input_with(0, source)
    return None


def _kernel(node: ir.Node) -> list[int] | None:
    given = node.attributes.get_ints("kernel_shape")
    if given is not None:
        return list(given)
    shape = dims(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    lengths = [length for length in shape or () if isinstance(length, int)]
    return lengths[2:] if shape is not None and len(lengths) == len(shape) else None


def _own_pads(node: ir.Node, kernel: list[int]) -> list[int] | None:
    """The padding that a node has, with SAME_* resolved, or None when that depends on an unknown shape."""
    auto, count = node.attributes.get_string("auto_pad", "NOTSET"), len(kernel)
    if auto == "NOTSET":
        return list(node.attributes.get_ints("pads", [0] * 2 * count))
    if auto == "VALID":
        return [0] * 2 * count
    shape = dims(node.inputs[0]) if node.inputs[0] is not None else None
    strides = node.attributes.get_ints("strides", [1] * count)
    dilations = node.attributes.get_ints("dilations", [1] * count)
    less, more = [], []
    for length, k, stride, dilation in zip((shape or ())[2:], kernel, strides, dilations, strict=False):
        if not isinstance(length, int):
            return None
        total = max((math.ceil(length / stride) - 1) * stride + (k - 1) * dilation + 1 - length, 0)
        less.append(total // 2)
        more.append(total - total // 2)
    if len(less) != count:
        return None
    return less + more if auto == "SAME_UPPER" else more + less


def _not_negative(value: ir.Value | None) -> bool:
    node = made_by(value, "Relu", "Clip", "Sigmoid", "HardSigmoid", "Softmax", *_KEEPS_SIGN)
    if node is None:
        return False
    if node.op_type == "Clip":
        low = scalar(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and low >= 0
    return node.op_type not in _KEEPS_SIGN or _not_negative(node.inputs[0])
