"""The TFLite flatbuffer: tensors, buffers, operators and metadata of one subgraph, written with the runtime's schema.

The schema is the one that ai-edge-litert ships (`schema.fbs`, file identifier TFL3). Equal constants share one buffer,
and every buffer lies on a boundary of 16 bytes, so that the runtime maps the file and copies nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsedge.backends.litert.packing import Aligned, Parameters
from dsedge.errors import BuildError
from dsedge.quant.plan import QParams

MAX_BYTES = 2**31 - 1
"""A flatbuffer's offsets are signed 32 bits."""
_SCHEMA_VERSION = 3
_TYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "float64": "FLOAT64",
    "int8": "INT8",
    "uint8": "UINT8",
    "int16": "INT16",
    "uint16": "UINT16",
    "int32": "INT32",
    "uint32": "UINT32",
    "int64": "INT64",
    "uint64": "UINT64",
    "bool": "BOOL",
}
_PLACEHOLDER = 127
"""Written in the old one-byte field of an operator code where the code needs more."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the subgraph.

    Attributes:
        index: in the subgraph.
        shape: as the flatbuffer has it.
        dtype: numpy's name of its element type.
        qparams: scale and zero point of codes, None for real values; `axis` counts as the flatbuffer's axes do.
        constant: whether it has a buffer with data.
    """

    index: int
    shape: tuple[int, ...]
    dtype: str
    qparams: QParams | None
    constant: bool


class Flatbuffer:
    """Collects one subgraph and writes it."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._buffers: list[Any] = [schema.BufferT()]  # the first is empty, by convention: that of every activation
        self._by_content: dict[bytes, int] = {}
        self._bytes = 0
        self._parameters: dict[bytes, Any] = {}
        self._names: set[str] = set()

    def activation(self, name: str, shape: Sequence[int], dtype: str, qparams: QParams | None = None) -> Tensor:
        """A tensor that an operator writes or that is an input."""
        return self._tensor(name, tuple(shape), dtype, qparams, 0)

    def variable(self, name: str, shape: Sequence[int], dtype: str) -> Tensor:
        """A tensor whose value lasts from one inference to the next, zero at first: the state of a recurrent layer."""
        tensor = self._tensor(name, tuple(shape), dtype, None, 0)
        self._tensors[tensor.index].isVariable = True
        return tensor

    def constant(self, name: str, array: np.ndarray, qparams: QParams | None = None) -> Tensor:
        """A tensor with data.

        Raises:
            BuildError: DS403 when the file would exceed 2 GiB.
        """
        data = np.ascontiguousarray(array)
        raw = data.reshape(-1).view(np.uint8)
        key = hashlib.sha256(raw.data).digest()
        if key not in self._by_content:
            self._bytes += raw.nbytes
            if self._bytes > MAX_BYTES:
                raise BuildError(
                    "DS403",
                    "the constants of the model exceed 2 GiB, which a TFLite file cannot hold",
                    where=name,
                    hint="compile with INT8 or INT4 weights, or choose another --runtime",
                )
            buffer = self.schema.BufferT()
            buffer.data = raw
            self._by_content[key] = len(self._buffers)
            self._buffers.append(buffer)
        return self._tensor(name, array.shape, data.dtype.name, qparams, self._by_content[key])

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: str, qparams: QParams | None, buffer: int) -> Tensor:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = self._free(name), list(shape), buffer
        tensor.type = getattr(self.schema.TensorType, _TYPES[dtype])
        tensor.hasRank = True
        if qparams is not None:
            tensor.quantization = Parameters(qparams, self._parameters)
        self._tensors.append(tensor)
        return Tensor(len(self._tensors) - 1, shape, dtype, qparams, buffer != 0)

    def operator(
        self,
        op: str,
        version: int,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        options: Any = None,
        intermediates: Sequence[Tensor] = (),
    ) -> int:
        """Append an operator.

        Args:
            op: its name in the schema's BuiltinOperator.
            version: the least that expresses it.
            inputs: None where an optional one is missing.
            outputs: what it writes.
            options: an object of the schema, whose class tells which options they are.
            intermediates: tensors that hold parameters of inner results.

        Returns:
            Its index in the subgraph.
        """
        code = int(getattr(self.schema.BuiltinOperator, op))
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((code, version), len(self._codes))
        operator.inputs = [-1 if tensor is None else tensor.index for tensor in inputs]
        operator.outputs = [tensor.index for tensor in outputs]
        if intermediates:
            operator.intermediates = [tensor.index for tensor in intermediates]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self._operators.append(operator)
        return len(self._operators) - 1

    def prune(self, outputs: Sequence[Tensor]) -> list[int]:
        """Drop the operators that nothing reads, with their constants.

        Args:
            outputs: what is read of the whole.

        Returns:
            The indices of those that stay, in order.
        """
        read = {tensor.index for tensor in outputs}
        kept: list[int] = []
        for i in reversed(range(len(self._operators))):
            operator = self._operators[i]
            if not read.isdisjoint(operator.outputs):
                kept.append(i)
                read.update(operator.inputs)
        kept.reverse()
        self._operators = [self._operators[i] for i in kept]
        codes = list(self._codes)
        self._codes = {}
        for operator in self._operators:
            operator.opcodeIndex = self._codes.setdefault(codes[operator.opcodeIndex], len(self._codes))
        for index, tensor in enumerate(self._tensors):
            tensor.buffer = tensor.buffer if index in read else 0
        used = {tensor.buffer for tensor in self._tensors}
        for index, buffer in enumerate(self._buffers):
            buffer.data = buffer.data if index in used else None
        return kept

    def serialize(
        self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], metadata: Mapping[str, bytes]
    ) -> bytes:
        """The file.

        Args:
            inputs, outputs: name -> tensor, in order; they become the signature "serving_default", and the tensors
                bear these names.
            metadata: name -> content.

        Raises:
            BuildError: DS403 when it would exceed 2 GiB.
        """
        import flatbuffers

        schema = self.schema
        graph = schema.SubGraphT()
        graph.name = "main"
        self._rename({tensor.index: name for name, tensor in (*inputs.items(), *outputs.items())})
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs = [tensor.index for tensor in inputs.values()]
        graph.outputs = [tensor.index for tensor in outputs.values()]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = self._named(inputs), self._named(outputs)
        model = schema.ModelT()
        model.version, model.description = _SCHEMA_VERSION, "dsedge"
        model.subgraphs, model.signatureDefs = [graph], [signature]
        model.operatorCodes = [self._operator_code(*key) for key in self._codes]
        model.metadata = []
        for name, content in metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name, len(self._buffers)
            model.metadata.append(entry)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content, np.uint8)
            self._buffers.append(buffer)
        model.buffers = [Aligned(buffer) for buffer in self._buffers]
        builder = flatbuffers.Builder(self._bytes + 2**16)
        try:
            builder.Finish(model.Pack(builder), b"TFL3")
        except flatbuffers.builder.BuilderSizeError as error:
            what = "the model exceeds 2 GiB, which a TFLite file cannot hold"
            raise BuildError("DS403", what, hint="compile with INT8 weights, or choose another --runtime") from error
        return bytes(builder.Output())

    def _rename(self, names: Mapping[int, str]) -> None:
        """Give tensors their names; whatever else has one of them gets another."""
        self._names |= {*names.values()}
        for index, tensor in enumerate(self._tensors):
            if index not in names and tensor.name in names.values():
                tensor.name = self._free(tensor.name)
        for index, name in names.items():
            self._tensors[index].name = name

    def _free(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _named(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        found = []
        for name, tensor in tensors.items():
            entry = self.schema.TensorMapT()
            entry.name, entry.tensorIndex = name, tensor.index
            found.append(entry)
        return found

    def _operator_code(self, code: int, version: int) -> Any:
        entry = self.schema.OperatorCodeT()
        entry.builtinCode, entry.version = code, version
        entry.deprecatedBuiltinCode = min(code, _PLACEHOLDER)
        return entry
