"""What TFLite's kernels take: which elements, how many axes, how large tensors. Asked of whatever is written.

The runtime says no only when it opens the file, and some of its kernels end the process instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from dsedge.backends.litert.flatbuffer import MAX_BYTES, Tensor

_AXES = 8
"""Of any tensor."""
_AXES_XNNPACK = 6
_SIX = frozenset(
    """BATCH_MATMUL CONCATENATION FULLY_CONNECTED GATHER MEAN REDUCE_MAX REDUCE_MIN REDUCE_PROD SOFTMAX SPLIT SPLIT_V
    SUM TRANSPOSE""".split()
)
"""XNNPACK asks for these whatever they read, and fails at more than its six axes; a TRANSPOSE of more than six is too
new for tflite-runtime 2.14."""


_SMALL = ("int8", "uint8", "int16", "uint32", "bool")
_LACKS = {
    "ABS": ("int64",),
    "ADD": _SMALL,
    "ARG_MAX": ("int64", "uint32"),
    "ARG_MIN": ("int64", "uint32"),
    "GATHER": ("uint32",),
    "GATHER_ND": ("uint32",),
    "PADV2": ("uint32",),
    "REDUCE_MAX": ("bool",),
    "REDUCE_MIN": ("bool",),
    "SCATTER_ND": ("int16", "uint32"),
}
"""Types of numbers, as opposed to codes, that an operator has no kernel for."""
_REAL = frozenset("BATCH_MATMUL FULLY_CONNECTED LOG MAX_POOL_2D RSQRT SQRT".split())
"""What computes on real numbers or their codes alone."""


class CannotEmit(Exception):
    """A node that TFLite cannot express, or not here; its text is the reason."""


def require(op: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> None:
    """Check that there is a kernel.

    Args:
        op: TFLite's operator.
        inputs: None where an optional one is missing.
        outputs: what it writes.

    Raises:
        CannotEmit: there is none for so many axes, or for such elements.
    """
    for position, tensor in enumerate(inputs):
        if tensor is None or tensor.qparams is not None:
            continue
        if tensor.dtype in _LACKS.get(op, ()) or (op in _REAL and position == 0 and tensor.dtype != "float32"):
            raise CannotEmit(f"TFLite's {op} has no kernel for {tensor.dtype}")
    axes = max(len(tensor.shape) for tensor in (*inputs, *outputs) if tensor is not None)
    most = _AXES_XNNPACK if op in _SIX else _AXES
    if axes > most:
        raise CannotEmit(f"TFLite's {op} takes {most} axes at most, here are {axes}")


def require_size(name: str | None, shape: Sequence[int], dtype: ir.DataType | None) -> None:
    """Check that a tensor fits into the runtime, which counts bytes in 31 bits.

    Raises:
        CannotEmit: it does not.
    """
    size = math.prod(shape) * (4 if dtype is None else dtype.numpy().itemsize)
    if size > MAX_BYTES:
        raise CannotEmit(f"{name!r} takes {size / 2**30:,.1f} GiB, TFLite's tensors at most 2 GiB")
