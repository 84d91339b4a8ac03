"""How each ONNX operator is written in TFLite, one file a family."""

from __future__ import annotations

from collections.abc import Mapping

from dsedge.backends.litert.emitter import Op
from dsedge.backends.litert.ops import (
    activation,
    comparison,
    convolution,
    einsum,
    elementwise,
    gather,
    generate,
    linear,
    lstm,
    normalization,
    padding,
    pooling,
    reduction,
    resize,
    select,
    shape,
    slicing,
    space,
)

OPS: Mapping[str, Op] = {
    **activation.OPS,
    **comparison.OPS,
    **convolution.OPS,
    **einsum.OPS,
    **elementwise.OPS,
    **gather.OPS,
    **generate.OPS,
    **linear.OPS,
    **lstm.OPS,
    **normalization.OPS,
    **padding.OPS,
    **pooling.OPS,
    **reduction.OPS,
    **resize.OPS,
    **select.OPS,
    **shape.OPS,
    **slicing.OPS,
    **space.OPS,
}
