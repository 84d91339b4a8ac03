"""The writer: tensors and operators for the node at hand, and the same numbers in another order, shape or scale.

Each is written once however often it is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from dsedge.backends.litert.codes import equal
from dsedge.backends.litert.flatbuffer import Flatbuffer, Tensor
from dsedge.backends.litert.kernels import CannotEmit, require
from dsedge.backends.litert.versions import version_of
from dsedge.quant.plan import QParams

Order = tuple[int, ...]
"""order[k]: which axis of the ONNX value is axis k of the tensor."""

CHANNELS_LAST: Mapping[int, Order] = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
"""Rank -> the order that TFLite's spatial operators want."""


@dataclass(frozen=True)
class Placed:
    """A tensor and the order in which it holds a value."""

    tensor: Tensor
    order: Order


class Writer:
    """Writes into a flatbuffer.

    Attributes:
        flatbuffer: where it is written.
        written: for each TFLite operator its name and that of the ONNX node that it stands for.
    """

    def __init__(self) -> None:
        self.flatbuffer = Flatbuffer()
        self.written: list[tuple[str, str]] = []
        self._node = ""
        self._permuted: dict[tuple[int, Order], Tensor] = {}
        self._reshaped: dict[int, Tensor] = {}
        self._requantized: dict[tuple[int, float, int], Tensor] = {}
        self._dequantized: dict[int, Tensor] = {}

    def constant(self, name: str, array: np.ndarray, qparams: QParams | None = None) -> Tensor:
        """A new constant tensor; float64 becomes float32."""
        return self.flatbuffer.constant(name, array.astype(np.float32) if array.dtype == np.float64 else array, qparams)

    def temporary(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor between two operators of one node, with the type and parameters of another."""
        return self.flatbuffer.activation(f"{self._node}_{name}", shape, like.dtype, like.qparams)

    def options(self, kind: str, **fields: Any) -> Any:
        """An options object of the schema, "Conv2DOptions" say, with fields as the schema's object API names them."""
        options = getattr(self.flatbuffer.schema, f"{kind}T")()
        for name, value in fields.items():
            assert hasattr(options, name), f"{kind} has no {name}"
            setattr(options, name, value)
        return options

    def op(
        self,
        name: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        options: Any = None,
        *,
        intermediates: Sequence[Tensor] = (),
        version: int | None = None,
    ) -> None:
        """Write an operator for the current node, at the lowest version that expresses it.

        Raises:
            CannotEmit: the runtime has no kernel for such tensors.
        """
        require(name, inputs, outputs)
        version = version or version_of(name, inputs, outputs, options)
        self.flatbuffer.operator(name, version, inputs, outputs, options, intermediates)
        self.written.append((name, self._node))

    @contextmanager
    def on_behalf_of(self, name: str) -> Iterator[None]:
        """What is written inside stands for the node of this name."""
        before, self._node = self._node, name
        try:
            yield
        finally:
            self._node = before

    def permuted(self, placed: Placed, order: Order) -> Tensor:
        """A tensor in another order, written once however often it is wanted."""
        if placed.order == order:
            return placed.tensor
        tensor = placed.tensor
        axes = tuple(placed.order.index(axis) for axis in order)
        key = (tensor.index, axes)
        if key not in self._permuted:
            long = [a for a in axes if tensor.shape[a] > 1]
            shape, stays = tuple(tensor.shape[a] for a in axes), long == sorted(long)
            if stays and self.origin(tensor).shape == shape:
                self._permuted[key] = self.origin(tensor)
            else:
                out = self.flatbuffer.activation(f"{self._node}_transposed", shape, tensor.dtype, tensor.qparams)
                self._permute(tensor, axes, out, stays)
                self._permuted[key] = out
        return self._permuted[key]

    def _permute(self, tensor: Tensor, axes: Order, out: Tensor, stays: bool) -> None:
        """Write a transposition; `stays` where only axes of length 1 move, so that the numbers lie as they should."""
        codes = self._dequantized.get(tensor.index)
        if codes is not None:  # the first DEQUANTIZE is pruned where nothing else reads it
            self.dequantize(self.permuted(Placed(codes, tuple(range(len(axes)))), axes), out)
        elif stays:
            self.reshape(tensor, out)
        else:
            wanted = self.constant("axes", np.array(axes, np.int32))
            self.op("TRANSPOSE", [tensor, wanted], [out], self.options("TransposeOptions"))

    def requantized(self, tensor: Tensor, params: QParams) -> Tensor:
        """Codes under another scale."""
        assert tensor.qparams is not None
        if equal(tensor.qparams, params) and tensor.dtype == params.dtype:
            return tensor
        key = (tensor.index, float(params.scale), int(params.zero_point))
        if key not in self._requantized:
            out = self.flatbuffer.activation(f"{self._node}_requantized", tensor.shape, params.dtype, params)
            self.op("QUANTIZE", [tensor], [out], self.options("QuantizeOptions"))
            self._requantized[key] = out
        return self._requantized[key]

    def origin(self, tensor: Tensor) -> Tensor:
        """The tensor of which another is a view; itself where it is none."""
        return self._reshaped.get(tensor.index, tensor)

    def reshape(self, tensor: Tensor, out: Tensor) -> None:
        """RESHAPE to the shape of `out`; from where the numbers come where `tensor` is but another view of them."""
        tensor = self.origin(tensor)
        self._reshaped[out.index] = tensor
        options = self.options("ReshapeOptions", newShape=list(out.shape))
        self.op("RESHAPE", [tensor, self.constant("shape", np.array(out.shape, np.int32))], [out], options)

    def dequantize(self, codes: Tensor, out: Tensor) -> None:
        """DEQUANTIZE; a transposition of `out` will be one of the codes, a quarter of the bytes."""
        self.op("DEQUANTIZE", [codes], [out], self.options("DequantizeOptions"))
        self._dequantized[out.index] = codes

    def widened(self, tensor: Tensor, name: str) -> Tensor:
        """Codes or float16 as float32 from now on."""
        out = self.flatbuffer.activation(name, tensor.shape, "float32")
        self.dequantize(tensor, out)
        return out

    def cast(self, x: Tensor, out: Tensor) -> None:
        """CAST to the type of `out`."""
        before, after = (getattr(self.flatbuffer.schema.TensorType, t.dtype.upper()) for t in (x, out))
        self.op("CAST", [x], [out], self.options("CastOptions", inDataType=before, outDataType=after))


DTYPES = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "uint32", "bool")
"""Element types that TFLite has kernels for."""


def input_of(node: ir.Node, index: int) -> ir.Value:
    """An input that a node has."""
    value = node.inputs[index]
    assert value is not None
    return value


def dtype_of(value: ir.Value) -> str:
    """numpy's name for the element type of a value.

    Raises:
        CannotEmit: when TFLite has no such type.
    """
    name = name_of(value)
    if name not in DTYPES:
        raise CannotEmit(f"{value.name!r} is {name}, for which TFLite has no kernels")
    return name


def name_of(value: ir.Value) -> str:
    """numpy's name for an element type, "unknown" where there is none."""
    return "unknown" if value.dtype is None else value.dtype.numpy().name
