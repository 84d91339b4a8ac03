"""Sparse tensors of an ONNX file, which no later step knows: they become dense."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dsedge.errors import LoadError
from dsedge.frontend.tensors import HINT_BROKEN, declared_bytes, graphs, nodes

if TYPE_CHECKING:
    import onnx

_MAX_DENSE = 2**30  # bytes that all sparse tensors of a model may take when they are dense


def densify(proto: onnx.ModelProto, source: str) -> None:
    """Make sparse initializers and sparse constants dense, in place; `check_tensor` has seen their parts.

    Raises:
        LoadError: DS102 when indices are out of range, occur twice or have the wrong shape, or when all together would
            take more than 1 GiB.
    """
    room = _MAX_DENSE

    def dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
        nonlocal room
        made = _dense(sparse, source, room)
        room -= len(made.raw_data)
        return made

    for graph in graphs(proto):
        graph.initializer.extend([dense(sparse) for sparse in graph.sparse_initializer])
        del graph.sparse_initializer[:]
    for node in nodes(proto):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                tensor = dense(attribute.sparse_tensor)
                attribute.Clear()
                attribute.name, attribute.type = "value", attribute.TENSOR
                attribute.t.CopyFrom(tensor)


def _dense(sparse: onnx.SparseTensorProto, source: str, room: int) -> onnx.TensorProto:
    import onnx

    values, indices, shape = sparse.values, sparse.indices, tuple(sparse.dims)

    def broken(because: str) -> LoadError:
        what = f"the sparse tensor {values.name!r} cannot be read"
        return LoadError("DS102", what, where=source, because=because, hint=HINT_BROKEN)

    if any(part.data_location == part.EXTERNAL or part.external_data for part in (values, indices)):
        raise broken("its data is external")
    if values.data_type == onnx.TensorProto.STRING or indices.data_type not in (onnx.TensorProto.INT64, 0):
        raise broken("its values are strings, or its indices no int64")
    count = math.prod(values.dims)
    dense = onnx.TensorProto(name=values.name, data_type=values.data_type, dims=shape)
    if declared_bytes(dense, source) > room:
        raise broken(f"dense it is {list(shape)}, and a model may have {_MAX_DENSE} bytes of such tensors")
    if len(values.dims) != 1 or tuple(indices.dims) not in ((count,), (count, len(shape))):
        raise broken(f"{list(indices.dims)} indices for {list(values.dims)} values of {len(shape)} axes")
    elements = onnx.numpy_helper.to_array(values)
    places = onnx.numpy_helper.to_array(indices) if count else np.empty(0, np.int64)
    limits = shape if places.ndim == 2 else math.prod(shape)
    if (places < 0).any() or (places >= limits).any():
        raise broken(f"an index lies outside of {list(shape)}")
    flat = np.ravel_multi_index(tuple(places.T), shape) if places.ndim == 2 else places
    if len(np.unique(flat)) != count:
        raise broken("an index occurs twice")
    array = np.zeros(shape, elements.dtype)
    array.ravel()[flat] = elements
    return onnx.numpy_helper.from_array(array, values.name)
