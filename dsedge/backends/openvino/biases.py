"""Biases: a product without one gets one that is next to nothing, where a Reshape reads it.

The plugin moves the scales of an INT8 product, one a channel, behind a Reshape that follows. Where an axis is open it
gets their shape wrong: the model does not compile, or computes something else. It does not move them across a sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NEXT_TO_NOTHING = 1e-30
"""A zero would be removed. This one is lost when it is added to any float32 above 1e-22."""
_PRODUCTS = ("MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData")


def add_biases(model: Any) -> int:
    """Put a sum behind each product that is reshaped.

    Args:
        model: an `openvino.Model`; changed.

    Returns:
        How many there are.
    """
    from openvino import opset13

    count = 0
    for node in model.get_ordered_ops():
        readers = list(node.output(0).get_target_inputs()) if node.get_type_name() in _PRODUCTS else []
        if not any(reader.get_node().get_type_name() == "Reshape" for reader in readers):
            continue
        ones = np.full([1] * node.get_output_partial_shape(0).rank.get_length(), NEXT_TO_NOTHING, np.float32)
        biased = opset13.add(node, opset13.constant(ones))
        biased.set_friendly_name(f"{node.get_friendly_name()}_biased")
        for reader in readers:
            reader.replace_source_output(biased.output(0))
        count += 1
    return count
