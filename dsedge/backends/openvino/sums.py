"""Sums: residual sums inside of the kernel of the convolution that makes one of their terms.

The plugin takes a sum up into a convolution where a FakeQuantize stands between the two, and computes it apart where
none does. One with 256 levels would cost 1 to 3 dB. One with so many levels that it changes nothing to speak of is no
quantizer to the plugin, and lets it fuse the two all the same: the convolution's result stays float inside of the
kernel. It needs no calibration, because what lies outside of the range that is given to it is cut off behind the sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LEVELS = 2**14
"""None of the numbers that the plugin takes for a quantizer's: 16, 255, 256, 65536 and the like."""
_PASSED = ("Relu", "Clamp", "Concat")
"""Operators that a quantizer behind them may as well stand before: the plugin moves it."""


def merge_sums(model: Any) -> int:
    """Put a FakeQuantize of many levels on the float term of each residual sum.

    Args:
        model: an `openvino.Model`; changed.

    Returns:
        How many sums there are.
    """
    from openvino import opset13

    count = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Add":
            continue
        terms = [node.input_value(i).get_node() for i in range(2)]
        quantized = [term.get_type_name() == "FakeQuantize" for term in terms]
        skip, behind = _span(terms[quantized.index(True)], 3) if sum(quantized) == 1 else None, _quantizer_behind(node)
        total = _span(behind, 1) if behind is not None else None
        if skip is None or total is None:
            continue
        source = node.input(quantized.index(False))
        ends = [opset13.constant(np.float32(end)) for end in (total[0] - skip[1], total[1] - skip[0])]
        fine = opset13.fake_quantize(source.get_source_output(), *ends, *ends, LEVELS)
        fine.set_friendly_name(f"{node.get_friendly_name()}_fine")
        source.replace_source_output(fine.output(0))
        count += 1
    return count


def _quantizer_behind(node: Any) -> Any | None:
    """The FakeQuantize that alone reads a sum, perhaps behind operators that it may as well stand before."""
    while len(readers := list(node.output(0).get_target_inputs())) == 1:
        node = readers[0].get_node()
        if node.get_type_name() == "FakeQuantize":
            return node
        if node.get_type_name() not in _PASSED:
            break
    return None


def _span(node: Any, first: int) -> tuple[float, float] | None:
    """Two constant inputs of a FakeQuantize as numbers: from 1 on what it cuts off at, from 3 on what it gives."""
    ends = [node.input_value(first + i).get_node() for i in range(2)]
    if any(end.get_type_name() != "Constant" or end.get_data().size != 1 for end in ends):
        return None
    low, high = (float(end.get_data().item()) for end in ends)
    return low, high
