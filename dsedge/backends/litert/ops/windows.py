"""How convolutions and pools move over space: windows, their padding, and whether TFLite's SAME is that padding."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx_ir as ir

from dsedge.backends.litert.emitter import CannotEmit
from dsedge.model import static_shape


@dataclass(frozen=True)
class Window:
    """How a window moves over the axes of space; one axis counts as two, the first of length 1.

    Attributes:
        kernel: extent on each axis.
        strides, dilations: steps from one window to the next, and inside a window.
        before: padding in front of each axis.
        after: padding behind each axis as the node has it; with ceil_mode the last window may reach beyond.
        size, out: length of each axis of the input and of the output.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    size: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """From the first to the last element of a window, on each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def reach(self) -> tuple[int, ...]:
        """How far the last window goes beyond the input, on each axis."""
        ends = zip(self.out, self.strides, self.extent, self.size, self.before, strict=True)
        return tuple(max((o - 1) * s + k - n - b, 0) for o, s, k, n, b in ends)

    @property
    def inside(self) -> bool:
        """Whether no window leaves the input."""
        return not any(self.before) and not any(self.reach)

    @property
    def same(self) -> bool:
        """Whether TFLite's SAME is this padding."""
        axes = zip(self.size, self.strides, self.extent, self.before, self.out, strict=True)
        return all(o == math.ceil(n / s) and b == same_padding(n, s, k) // 2 for n, s, k, b, o in axes)

    def of(self, *axes: int) -> Window:
        """The window over some of the axes."""
        return Window(*(tuple(getattr(self, name)[a] for a in axes) for name in Window.__dataclass_fields__))

    def beside(self, length: int) -> Window:
        """The same with a last axis of some length, along which nothing happens."""
        still = Window((1,), (1,), (1,), (0,), (0,), (length,), (length,))
        return Window(*(getattr(self, name) + getattr(still, name) for name in Window.__dataclass_fields__))


def same_padding(size: int, stride: int, extent: int) -> int:
    """What SAME adds to an axis."""
    return max((math.ceil(size / stride) - 1) * stride + extent - size, 0)


def window(node: ir.Node, kernel: tuple[int, ...]) -> Window:
    """The window of a Conv or pool over its input.

    Raises:
        CannotEmit: when an axis is open or the padding negative.
    """
    size, out = _space(node.inputs[0]), _space(node.outputs[0])
    w = _moving(node, kernel, size, out)
    totals = [same_padding(n, s, k) for n, s, k in zip(size, w.strides, w.extent, strict=True)]
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        before, after = _halves(totals, upper=auto == "SAME_UPPER")
    else:
        before, after = _pads(node, auto, len(kernel))
    return _two_axes(replace(w, before=before, after=after))


def transposed_window(node: ir.Node, kernel: tuple[int, ...]) -> Window:
    """The window of the convolution that a ConvTranspose goes back: `size` is that of its output.

    Raises:
        CannotEmit: when an axis is open or the padding negative.
    """
    size, out = _space(node.outputs[0]), _space(node.inputs[0])
    w = _moving(node, kernel, size, out)
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER") or "output_shape" in node.attributes:
        more = node.attributes.get_ints("output_padding", (0,) * len(kernel))
        axes = zip(out, w.strides, w.extent, size, more, strict=True)
        totals = [max((o - 1) * s + k + extra - n, 0) for o, s, k, n, extra in axes]
        before, after = _halves(totals, upper=auto == "SAME_UPPER")
    else:
        before, after = _pads(node, auto, len(kernel))
    return _two_axes(replace(w, before=before, after=after))


def _space(value: ir.Value | None) -> tuple[int, ...]:
    shape = static_shape(value) if value is not None else None
    if shape is None:
        raise CannotEmit("its shape is not known before it runs")
    return shape[2:]


def _moving(node: ir.Node, kernel: tuple[int, ...], size: tuple[int, ...], out: tuple[int, ...]) -> Window:
    """A window without padding."""
    rank = len(kernel)
    strides = tuple(node.attributes.get_ints("strides", (1,) * rank))
    dilations = tuple(node.attributes.get_ints("dilations", (1,) * rank))
    return Window(kernel, strides, dilations, (0,) * rank, (0,) * rank, size, out)


def _halves(totals: list[int], *, upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and behind; the odd one comes behind where `upper`."""
    less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (less, more) if upper else (more, less)


def _pads(node: ir.Node, auto: str, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and behind as the node says it."""
    given = (0,) * (2 * rank) if auto == "VALID" else tuple(node.attributes.get_ints("pads", (0,) * (2 * rank)))
    if any(p < 0 for p in given):
        raise CannotEmit("its padding is negative")
    return given[:rank], given[rank:]


def _two_axes(w: Window) -> Window:
    """The same window with two axes of space at least."""
    return w if len(w.kernel) > 1 else w.beside(1).of(1, 0)
