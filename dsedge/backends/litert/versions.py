"""Versions of TFLite operators: the lowest that expresses a node, so that old runtimes read the file.

After `tensorflow/lite/tools/versioning/op_version.cc`, which says from which version on an operator takes what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dsedge.backends.litert.flatbuffer import Tensor

_INT8 = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
}
"""Where INT8 activations came with another version than 2."""

_SINCE_ONE = frozenset("HARD_SWISH PRELU LEAKY_RELU QUANTIZE SQUEEZE EXPAND_DIMS SELECT_V2 ELU".split())
"""Operators that took INT8 from the first version on, or take none."""

_HYBRID = {
    "CONV_2D": (2, 2, 5),
    "DEPTHWISE_CONV_2D": (4, 4, 6),
    "FULLY_CONNECTED": (3, 9, 12),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (2, 3, 3),
}
"""INT8 weights under float activations: one scale, the same with `asymmetricQuantizeInputs`, one scale a channel.

FULLY_CONNECTED reads the scales of channels from 12 on only: tflite-runtime 2.14 refuses that version, and takes the
first scale for all channels at a lower one.
"""

MOVES: Mapping[str, Mapping[str, int]] = {
    "BROADCAST_TO": {"": 2, "int8": 3},
    "CONCATENATION": {"int8": 2, "uint32": 4},
    "FILL": {"bool": 2, "int8": 3},
    "GATHER": {"int8": 2, "bool": 3},
    "GATHER_ND": {"bool": 5},
    "MIRROR_PAD": {"int8": 2},
    "PAD": {"int8": 2, "rank 5": 4, "bool": 5},
    "PADV2": {"int8": 2, "rank 5": 4, "bool": 5},
    "RESHAPE": {},
    "REVERSE_V2": {"bool": 2, "int8": 3},
    "SLICE": {"int8": 2, "rank 5": 5, "uint32": 6},
    "SPLIT": {"int8": 2, "int32": 3},
    "SPLIT_V": {"int8": 2},
    "STRIDED_SLICE": {"int8": 2, "bool": 3, "rank 5": 4, "uint32": 7},
    "TILE": {"int8": 3},
    "TRANSPOSE": {"int8": 2, "bool": 3, "rank 5": 4, "rank 6": 6},
}
"""Operators that move or repeat: what they move, and since which version; "" for anything, "rank 5" from there on."""

_ARITHMETIC: Mapping[str, Mapping[str, int]] = {
    "ABS": {"int8": 2, "int32": 5},
    "ADD": {"int8": 2, "int64": 4},
    "MUL": {"int8": 2, "int64": 5},
    "SIGN": {"int32": 2},
    "SUB": {"int8": 2, "int64": 4},
}
"""Arithmetic and what it computes with, as above."""


def _convolution(inputs: Sequence[Tensor | None], options: Any) -> int:
    x, weight = inputs[:2]
    assert x is not None and weight is not None
    return 6 if x.shape[-1] != weight.shape[-1] else 3 if x.dtype == "int8" else 1


def _depthwise(inputs: Sequence[Tensor | None], options: Any) -> int:
    dilates = options.dilationHFactor != 1 or options.dilationWFactor != 1
    return 3 if inputs[0] is not None and inputs[0].dtype == "int8" else 2 if dilates else 1


def _transposed(inputs: Sequence[Tensor | None], options: Any) -> int:
    weight, bias = inputs[1], inputs[3:]
    return 4 if options.fusedActivationFunction else 3 if bias else 2 if weight and weight.dtype == "int8" else 1


def _bilinear(inputs: Sequence[Tensor | None], options: Any) -> int:
    return 3 if options.halfPixelCenters else 2 if inputs[0] is not None and inputs[0].dtype == "int8" else 1


def _nearest(inputs: Sequence[Tensor | None], options: Any) -> int:
    return 3 if options.alignCorners else _bilinear(inputs, options)


_SPATIAL: Mapping[str, Callable[[Sequence[Tensor | None], Any], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "RESIZE_BILINEAR": _bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _nearest,
}


def version_of(op: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor], options: Any) -> int:
    """The lowest version of an operator for what it reads and writes."""
    first = inputs[0]
    codes = first is not None and first.dtype == "int8"
    if op == "DEQUANTIZE" and first is not None:
        per_channel = first.qparams is not None and first.qparams.axis is not None
        return 5 if per_channel else 3 if first.dtype == "float16" else 2 if codes else 1
    if op == "MUL" and _grows(inputs, outputs):
        return 3
    if op == "CAST":
        return 3 if codes or outputs[0].dtype == "int8" else 1
    since = MOVES.get(op, _ARITHMETIC.get(op))
    if since is not None:
        moved = inputs[1] if op in ("SPLIT", "FILL") else first
        assert moved is not None
        facts = {"", moved.dtype, *(f"rank {n}" for n in range(5, len(moved.shape) + 1))}
        return max((version for what, version in since.items() if what in facts), default=1)
    weights = [t for t in inputs if t is not None and t.dtype == "int8"]
    if op in _HYBRID and not codes and weights:
        one, asymmetric, channels = _HYBRID[op]
        if any(w.qparams is not None and w.qparams.axis is not None for w in weights):
            return channels
        return asymmetric if getattr(options, "asymmetricQuantizeInputs", False) else one
    if op in _SPATIAL:
        return _SPATIAL[op](inputs, options)
    if op == "FULLY_CONNECTED" and options.keepNumDims:
        return 5
    if codes and op not in _SINCE_ONE:
        return _INT8.get(op, 2)
    return 1


def _grows(inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> bool:
    """Whether a product of codes is rescaled by one or more."""
    scales = [t.qparams.scale for t in (*inputs, *outputs) if t is not None and t.qparams is not None]
    return len(scales) == 3 and bool(scales[0] * scales[1] / scales[2] >= 1)
