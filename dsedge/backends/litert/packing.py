"""Packing: parts of the flatbuffer that the generated classes write wastefully, or know no alignment for."""

from __future__ import annotations

from typing import Any

import numpy as np

from dsedge.quant.plan import QParams

_ALIGNMENT = 16


class Aligned:
    """A buffer whose data begins on a boundary."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def Pack(self, builder: Any) -> Any:
        """Write it; the generated classes call this name."""
        from ai_edge_litert import schema_py_generated as schema

        data = self.buffer.data
        offset = None
        if data is not None and len(data):
            builder.StartVector(1, len(data), _ALIGNMENT)
            builder.head -= len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data.tobytes()
            offset = builder.EndVector()
        schema.BufferStart(builder)
        if offset is not None:
            schema.BufferAddData(builder, offset)
        return schema.BufferEnd(builder)


class Parameters:
    """Scales and zero points; what is equal is written once, as the many zeros of weights and biases are."""

    def __init__(self, qparams: QParams, written: dict[bytes, Any]) -> None:
        self.scale = qparams.scale.reshape(-1).astype(np.float32)
        self.zero_point = qparams.zero_point.reshape(-1).astype(np.int64)
        self.axis = qparams.axis or 0
        self.written = written

    def Pack(self, builder: Any) -> Any:
        """Write them; the generated classes call this name."""
        from ai_edge_litert import schema_py_generated as schema

        scale, zero_point = (self._vector(builder, array) for array in (self.scale, self.zero_point))
        schema.QuantizationParametersStart(builder)
        schema.QuantizationParametersAddScale(builder, scale)
        schema.QuantizationParametersAddZeroPoint(builder, zero_point)
        schema.QuantizationParametersAddQuantizedDimension(builder, self.axis)
        return schema.QuantizationParametersEnd(builder)

    def _vector(self, builder: Any, array: np.ndarray) -> Any:
        key = array.dtype.char.encode() + array.tobytes()
        if key not in self.written:
            self.written[key] = builder.CreateNumpyVector(array)
        return self.written[key]
