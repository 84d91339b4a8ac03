from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from dsedge.errors import LoadError
from dsedge.frontend import load
from dsedge.frontend.formats import recognise


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("m.ort", b"\x1c\0\0\0ORTM\0\0", "ONNX Runtime flatbuffer"),
        ("m.onnx", b"\x1c\0\0\0TFL3\0\0", "TensorFlow Lite"),
        ("m", b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "Keras"),
        ("m.onnx", b"GGUF\x03\0\0\0", "GGUF"),
        ("m.engine", b"ftrt\0\0\0\0", "TensorRT"),
        ("m.plan", b"\x01\x02\x03", "TensorRT"),
        ("m.xml", b'<?xml version="1.0"?><net name="m">', "OpenVINO"),
        ("m.pb", b"\n\x0b\n\x01x\x12\x06Placeholder", "TensorFlow graph"),
        ("m.mlmodel", b"\x08\x04\x12\x02\n\0", "Core ML"),
        ("m.onnx", b"\x80\x04\x95abc", "pickle"),
        ("m.pkl", b"cos\nsystem\n(S'id'\ntR.", "pickle"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadError) as caught:
        load(tmp_path / name)
    assert caught.value.code == "DS103" and what in caught.value.what and caught.value.hint


@pytest.mark.parametrize(
    ("members", "what"),
    [(["model.weights.h5", "config.json"], "Keras"), (["a/b.txt"], "zip archive"), ([], "zip archive")],
)
def test_archives(tmp_path: Path, members: list[str], what: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for member in members:
            archive.writestr(member, "x")
    with pytest.raises(LoadError) as caught:
        load(tmp_path / "m.zip")
    assert caught.value.code == "DS103" and what in caught.value.what
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(LoadError, match="numpy"):
        load(tmp_path / "a.npz")


def test_damaged_archives_and_weights_without_a_module(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04" + b"\0" * 40)
    with pytest.raises(LoadError) as caught:
        load(tmp_path / "m.pt")
    assert caught.value.code == "DS102"
    (tmp_path / "m.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(LoadError) as caught:
        load(tmp_path / "m.safetensors")
    assert caught.value.code == "DS103" and "--factory" in str(caught.value)


def test_a_model_is_known_by_its_content(tmp_path: Path) -> None:
    from graphs import Net

    net = Net(x=(1, 4))
    content = net.proto(net.op("Relu", "x")).SerializeToString()
    for name in ("m.bin", "m.pb", "m"):
        (tmp_path / name).write_bytes(content)
        assert load(tmp_path / name).source_opset == 20


def test_a_factory_is_for_weights(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(LoadError) as caught:
        load(tmp_path / "m.onnx", factory="a:b")
    assert caught.value.code == "DS145"


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickled_module_is_no_file_of_weights(tmp_path: Path, wrapped: bool) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 3))
    torch.save({"epoch": 1, "model": module} if wrapped else module, tmp_path / "m.pt")
    for weights in (False, True):
        with pytest.raises(LoadError) as caught:
            recognise(tmp_path / "m.pt", weights=weights)
        assert caught.value.code == "DS103"
        assert "a pickle that holds a torch.nn.modules" in caught.value.what
        assert "state_dict" in str(caught.value.hint)
    state = {"epoch": 1, "seen": {1, 2}, "model": module.state_dict(), "bias": module[0].bias}
    torch.save(state, tmp_path / "m.pt")
    assert recognise(tmp_path / "m.pt") == "checkpoint"
