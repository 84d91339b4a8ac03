from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Net, chain

from dsedge.errors import LoadError
from dsedge.frontend import load


def proto() -> onnx.ModelProto:
    net = Net(x=("N", 8, 12, 12))
    return net.proto(net.head(net.conv("x", 16, act="Relu")))


def saved(folder: Path, model: onnx.ModelProto | None = None, name: str = "net") -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes((model or proto()).SerializeToString())
    return path


def external(folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(proto(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    return path


def relocated(path: Path, **changes: str) -> Path:
    """Other entries for the external data of the first weight."""
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = changes.pop(entry.key, entry.value)
    for key, value in changes.items():
        model.graph.initializer[0].external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path | str, code: str) -> str:
    with pytest.raises(LoadError) as caught:
        load(path)
    assert caught.value.code == code
    return str(caught.value)


def test_a_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    model = load(str(path))
    assert (model.name, model.source, model.source_opset, model.opset) == ("net", str(path), 20, 20)
    assert model.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [str(spec) for spec in model.inputs] == ["x: float32[N, 8, 12, 12] NCHW"]
    assert load(model) is model


def test_nodes_without_names_and_out_of_order(tmp_path: Path) -> None:
    model = proto()
    for node in model.graph.node:
        node.name = ""
    model.graph.node[1].name = "twice"
    model.graph.node[2].name = "twice"
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graph = load(saved(tmp_path, model)).graph
    names = [node.name for node in graph.graph]
    assert [node.op_type for node in graph.graph] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    assert all(names)
    assert len(set(names)) == 5
    assert "twice" in names


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    path = external(tmp_path)
    model = load(path)
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in proto().graph.initializer}
    for name, value in model.graph.graph.initializers.items():
        np.testing.assert_array_equal(value.const_value.numpy(), expected[name])
    first = model.fingerprint
    data = tmp_path / "net.data"
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)
    assert load(path).fingerprint != first, "the weights are part of what the model is"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"location": "../secret"}, "outside"),
        ({"location": "/etc/hostname"}, "outside"),
        ({"location": "link"}, "outside"),
        ({"location": ""}, "outside"),
        ({"location": "missing.data"}, "missing"),
        ({"location": "."}, "missing"),
        ({"length": "99999999"}, "too short"),
        ({"offset": "99999999"}, "too short"),
        ({"offset": "-4"}, "offset"),
        ({"length": "1e3"}, "length"),
    ],
)
def test_external_data_that_is_not_there(tmp_path: Path, changes: dict[str, str], what: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 10_000)
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(LoadError) as caught:
        load(relocated(external(folder), **changes))
    assert caught.value.code == "DS104"
    assert what in str(caught.value)


@pytest.mark.parametrize("where", ["attribute", "body", "function"])
def test_external_data_in_hidden_places_is_checked_too(tmp_path: Path, where: str) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "t")
    onnx.external_data_helper.set_external_data(tensor, "../secret", 0, 16)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    (tmp_path / "secret").write_bytes(b"\0" * 16)
    folder = tmp_path / "model"
    folder.mkdir()
    model = proto()
    constant = onnx.helper.make_node("Constant", [], ["c"], name="c")
    constant.attribute.append(
        onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(np.zeros(4, np.float32)))
    )
    constant.attribute[0].t.CopyFrom(tensor)
    if where == "attribute":
        model.graph.node.append(constant)
    elif where == "body":
        out = [onnx.helper.make_tensor_value_info("c", 1, [4])]
        body = onnx.helper.make_graph([constant], "b", [], out)
        inner = onnx.helper.make_graph([], "b2", [], out, [tensor])
        model.graph.node.append(onnx.helper.make_node("If", ["x"], ["i"], "i", then_branch=body, else_branch=inner))
    else:
        model.functions.append(
            onnx.helper.make_function("d", "f", [], ["c"], [constant], [onnx.helper.make_opsetid("", 20)])
        )
    refused(saved(folder, model), "DS104")


def test_sparse_weights_are_not_dropped_in_silence(tmp_path: Path) -> None:
    """Whoever reads the graph without them takes them for missing inputs."""
    values = onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")
    indices = onnx.numpy_helper.from_array(np.array([0, 5]), "w_indices")
    net = Net(x=(1, 4))
    model = net.proto(net.op("MatMul", "x", "w"))
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [4, 4]))
    try:
        loaded = load(saved(tmp_path, model))
    except LoadError as error:
        assert "'w'" in str(error)
    else:
        dense = loaded.graph.graph.initializers["w"].const_value.numpy()
        assert dense.ravel().nonzero()[0].tolist() == [0, 5]


def test_files_that_are_no_model(tmp_path: Path) -> None:
    refused(tmp_path / "missing.onnx", "DS101")
    refused(tmp_path, "DS101")
    content = saved(tmp_path).read_bytes()
    cut = tmp_path / "cut.onnx"
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        assert "cut.onnx" in refused(cut, "DS102")
    cut.write_bytes(os.urandom(5000))
    refused(cut, "DS102")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".bin", ".PT"])
def test_pickles_are_refused_unread(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    refused(path, "DS103")
    assert not (tmp_path / "pwned").exists()


def test_sources_that_are_none() -> None:
    for source in (b"bytes", 3, None, [1]):
        with pytest.raises(LoadError) as caught:
            load(source)
        assert caught.value.code == "DS103"


def change_output(name: str) -> Callable[[onnx.ModelProto], object]:
    return lambda m: m.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))


@pytest.mark.parametrize(
    ("change", "code", "what"),
    [
        (lambda m: m.ClearField("graph"), "DS102", "no graph"),
        (lambda m: m.ClearField("opset_import"), "DS102", "no opset"),
        (lambda m: setattr(m.opset_import[0], "version", 6), "DS108", "opset 6"),
        (lambda m: setattr(m.opset_import[0], "version", 999), "DS108", "opset 999"),
        (lambda m: m.graph.ClearField("output"), "DS106", "no outputs"),
        (lambda m: m.graph.output.append(m.graph.output[0]), "DS106", "declared twice"),
        (change_output("nothing"), "DS106", "'nothing'"),
        (lambda m: m.graph.node[1].output.__setitem__(0, "conv_0"), "DS102", "'conv_0'"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim[1].CopyFrom(_dim(0)), "DS106", "length 0"),
        (lambda m: m.graph.initializer[0].dims.append(7), "DS102", "does not hold what its shape"),
    ],
)
def test_graphs_that_are_broken(
    tmp_path: Path, change: Callable[[onnx.ModelProto], object], code: str, what: str
) -> None:
    model = proto()
    change(model)
    assert what in refused(saved(tmp_path, model), code)


def _dim(length: int) -> onnx.TensorShapeProto.Dimension:
    return onnx.TensorShapeProto.Dimension(dim_value=length)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    model = proto()
    tensor = model.graph.initializer[0]
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[-1] = value
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    assert repr(tensor.name) in refused(saved(tmp_path, model), "DS105")


def test_huge_but_finite_weights_and_a_mask_of_inf_are_fine(tmp_path: Path) -> None:
    net = Net(x=("N", 8, 12, 12))
    masked = net.op("Add", net.conv("x", 16), net.const(np.array([0, -np.inf], np.float32).repeat(6)))
    model = net.proto(net.op("Softmax", masked))
    array = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    array[:] = 3e38
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, "const_0"))
    assert load(saved(tmp_path, model)).name == "net"


def test_a_model_in_memory_has_no_folder() -> None:
    assert chain().source == "net.onnx"
