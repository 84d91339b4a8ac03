"""Tensors of an ONNX file: where they are, and whether they hold what they declare, before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir

from dsedge.errors import LoadError

if TYPE_CHECKING:
    import onnx

HINT_BROKEN = "export the model again; the file may be cut off"


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph and the bodies of control flow in it, those in functions included."""

    def below(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
        for node in nodes:
            for attribute in node.attribute:
                for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    yield body
                    yield from below(body.node)

    yield proto.graph
    yield from below(proto.graph.node)
    for function in proto.functions:
        yield from below(function.node)


def nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes: of the graph, of bodies and of functions."""
    for graph in graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors: initializers and attributes, the parts of sparse ones included."""

    def parts(sparse: onnx.SparseTensorProto) -> tuple[onnx.TensorProto, onnx.TensorProto]:
        return sparse.values, sparse.indices

    for graph in graphs(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from parts(sparse)
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            single = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for sparse in (*single, *attribute.sparse_tensors):
                yield from parts(sparse)


def declared_bytes(tensor: onnx.TensorProto, source: str) -> int:
    """How many bytes the shape and type of a tensor ask for; nothing is allocated.

    Raises:
        LoadError: DS102 for a type that ONNX does not have, or a negative dimension.
    """
    try:
        dtype = ir.DataType(tensor.data_type)
        bits = 0 if dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING) else int(dtype.bitwidth)
    except (ValueError, TypeError):
        raise LoadError("DS102", f"tensor {tensor.name!r} has the type {tensor.data_type}", where=source) from None
    if any(d < 0 for d in tensor.dims):
        raise LoadError("DS102", f"tensor {tensor.name!r} has a negative dimension", where=source, hint=HINT_BROKEN)
    return int(-(-math.prod(tensor.dims) * bits // 8))


def check_tensor(tensor: onnx.TensorProto, source: str) -> None:
    """The data that a tensor brings must be what its shape declares.

    Raises:
        LoadError: DS102 when it is not.
    """
    needed = declared_bytes(tensor, source)
    if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
        return
    if tensor.HasField("raw_data"):
        fits = len(tensor.raw_data) == needed
    else:
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        held = max(map(len, (*fields, tensor.string_data)))
        # Small types are packed, complex ones take two fields: a factor of two either way is a matter of the type.
        count = math.prod(tensor.dims)
        fits = count <= 2 * held and held <= 2 * max(count, 1)
    if not fits:
        what = f"weight {tensor.name!r} does not hold what its shape {list(tensor.dims)} declares"
        raise LoadError("DS102", what, where=source, hint=HINT_BROKEN)
