from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graphs import Net
from onnx import helper, numpy_helper

from dsedge.errors import LoadError
from dsedge.frontend.onnx import from_proto
from dsedge.model import Model
from dsedge.passes.normalize import normalize
from dsedge.verify import predictor


def sparse(indices: Any, shape: list[int], count: int = 2, dtype: Any = np.float32) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.arange(1, count + 1).astype(dtype), "w")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices, np.int64), "i"), shape)


def model(tensor: onnx.SparseTensorProto, *, constant: bool = False) -> Model:
    net = Net(x=(1, 4))
    proto = net.proto(net.op("MatMul", "x", "w"))
    if constant:
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], "c", sparse_value=tensor))
    else:
        proto.graph.sparse_initializer.append(tensor)
    return from_proto(proto, "m", "m.onnx", "0", folder=None)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("indices", [[1, 14], [[0, 1], [3, 2]], [14, 1]])
def test_sparse_weights_become_dense(indices: list[Any], constant: bool) -> None:
    (got,) = predictor(normalize(model(sparse(indices, [4, 4]), constant=constant))[0].graph)(
        {"x": np.array([[1, 10, 100, 1000]], np.float32)}
    )
    assert got.ravel().tolist() == ([0, 1, 2000, 0] if indices != [14, 1] else [0, 2, 1000, 0])


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (sparse([0, 16], [4, 4]), "outside"),
        (sparse([0, -1], [4, 4]), "outside"),
        (sparse([[0, 0], [0, 4]], [4, 4]), "outside"),
        (sparse([[0, 0], [-1, 0]], [4, 4]), "outside"),
        (sparse([3, 3], [4, 4]), "twice"),
        (sparse([1, 2, 3], [4, 4]), "[3] indices for [2] values"),
        (sparse([[0, 0, 0], [1, 1, 1]], [4, 4]), "indices for"),
        (sparse([0, 1], [2**31, 2**31]), "bytes of such tensors"),
        (sparse([0, 1], [2**62, 4]), "bytes of such tensors"),
        (sparse([0, 1], [-4, -4]), "negative dimension"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_indices_and_sizes(tensor: onnx.SparseTensorProto, words: str) -> None:
    with pytest.raises(LoadError) as caught:
        model(tensor)
    assert caught.value.code == "DS102" and words in str(caught.value)


def test_external_parts_are_not_read() -> None:
    tensor = sparse([0, 1], [4, 4])
    tensor.values.ClearField("raw_data")
    tensor.values.data_location = onnx.TensorProto.EXTERNAL
    tensor.values.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(LoadError) as caught:
        model(tensor)
    assert "external" in str(caught.value)
