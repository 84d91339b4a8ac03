"""Reshapes that keep an order of axes.

A Reshape cuts and joins axes. Where both shapes fall into runs of axes with equal products (N | C | H | W and
N | g c | H | W in a channel shuffle), each run may lie wherever it does in the tensor: as long as the axes of a run
stay together and in sequence, the numbers need not move.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsedge.backends.litert.emitter import CHANNELS_LAST, Order

Run = tuple[list[int], list[int]]
"""Axes of the shape before and axes of the shape behind that hold the same numbers."""


def regrouped(before: Sequence[int], after: Sequence[int], order: Order, *, plain: bool) -> tuple[Order, Order]:
    """The orders in which a Reshape reads and writes, so that as few numbers as possible move.

    Args:
        before, after: the shapes in ONNX's order of axes.
        order: that in which the input is held.
        plain: whether ONNX's own order is preferred for the result, where length 1 leaves a choice.

    Returns:
        The order in which the input is wanted, `order` itself where nothing needs to move; and that of the result.
    """
    runs = _runs(before, after)
    if runs is None:
        return tuple(range(len(before))), tuple(range(len(after)))
    long = [axis for axis in order if before[axis] > 1]
    runs.sort(key=lambda run: max((before[axis], long.index(axis)) for axis in run[0])[1])  # as their longest axes lie
    wanted = [axis for run in runs for axis in run[0]]
    source = order
    if wanted != long:
        source = (*(axis for axis in range(len(before)) if before[axis] == 1), *wanted)
    return source, _with_ones(after, [axis for run in runs for axis in run[1]], plain)


def _runs(before: Sequence[int], after: Sequence[int]) -> list[Run] | None:
    """The least runs of axes longer than 1 with equal products; None where an axis is empty."""
    if 0 in before or 0 in after:
        return None
    left = [axis for axis, n in enumerate(before) if n > 1]
    right = [axis for axis, n in enumerate(after) if n > 1]
    runs: list[Run] = []
    while left and right:
        run: Run = ([left.pop(0)], [right.pop(0)])
        size = [before[run[0][0]], after[run[1][0]]]
        while size[0] != size[1]:
            side = 0 if size[0] < size[1] else 1
            axes, shape = ((left, before), (right, after))[side]
            axis = axes.pop(0)
            run[side].append(axis)
            size[side] *= shape[axis]
        runs.append(run)
    return runs


def _with_ones(shape: Sequence[int], long: list[int], plain: bool) -> Order:
    """An order of all axes, given that of those longer than 1: a common one where there is a choice."""
    ranges = tuple(range(len(shape)))
    channels_last = CHANNELS_LAST.get(len(shape), ranges)
    for order in (ranges, channels_last) if plain else (channels_last, ranges):
        if [axis for axis in order if shape[axis] > 1] == long:
            return order
    found = list(long)
    for axis in ranges:
        if shape[axis] == 1:  # behind the axis that it follows
            found.insert(found.index(axis - 1) + 1 if axis - 1 in found else 0, axis)
    return tuple(found)
