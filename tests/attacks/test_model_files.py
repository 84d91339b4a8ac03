"""Files that are no ONNX model, or not a whole one, and external data that is not where it should be."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from attacks.hostile import MODEL, WEIGHT, Ended, initializer, refused, save, small
from onnx import TensorProto, helper, numpy_helper

import dsedge

Attempt = Callable[..., Ended]
SIZE = MODEL.stat().st_size
TENSOR = 8 * 3 * 3 * 3 * 4  # bytes


@pytest.mark.parametrize("length", [0, 1, 2, 7, 64, 400, 4096, 70_000, SIZE // 2, SIZE - 100, SIZE - 1])
def test_truncated(attempt: Attempt, tmp_path: Path, length: int) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL.read_bytes()[:length])
    refused(attempt(model=tmp_path / "m.onnx"), "DS102", "m.onnx", "hint")


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes(attempt: Attempt, tmp_path: Path, seed: int) -> None:
    (tmp_path / "m.onnx").write_bytes(np.random.default_rng(seed).bytes(3000))
    refused(attempt(model=tmp_path / "m.onnx"), "DS102")


def test_no_file(attempt: Attempt, tmp_path: Path) -> None:
    refused(attempt(model=tmp_path / "m.onnx"), "DS101", "No such file")
    refused(attempt(model=tmp_path), "DS101", "this is a folder")
    refused(attempt(model=MODEL / "m.onnx"), "DS101", "Not a directory")


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("/nonexistent/pwned").touch, ())


@pytest.mark.parametrize(
    ("name", "code"),
    [("m.onnx", "DS103"), ("m.pt", "DS103"), ("m.pth", "DS103"), ("m.PKL", "DS103"), ("m.ckpt", "DS103")],
)
def test_pickles_are_not_opened(attempt: Attempt, tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    refused(attempt(model=tmp_path / name), code)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--shape", "image=1,1,8"), "4 axes"),
        (("--shape", "imgae=1,1,8,8"), "did you mean 'image'?"),
        (("--shape", "image=1,1,8,8", "--shape", "image=2,1,8,8"), "two shapes"),
        (("--shape", "image=" + "9" * 5000), "no shape"),
        (("--shape", "image=99999999999999999,1,8,8"), "too large"),
        (("--shape", "image=\x1b[2J"), "no shape"),
        (("--factory", "os:system"), "hold weights alone"),
        (("--simplify", "onnxsimm"), "did you mean 'onnxsim'?"),
    ],
)
def test_options_for_the_source(attempt: Attempt, option: tuple[str, ...], words: str) -> None:
    refused(attempt(*option), "DS145", words)


def external(folder: Path, **entries: str) -> Path:
    """A model whose first weight lies in the file w.bin, if `entries` are right."""
    folder.mkdir(exist_ok=True)
    proto = small()
    tensor = initializer(proto)
    (folder / "w.bin").write_bytes(numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return save(proto, folder / "m.onnx")


@pytest.mark.parametrize("constant", [False, True])
def test_external_data_beside_the_model_is_taken(
    cli: Attempt, attempt: Attempt, tmp_path: Path, constant: bool
) -> None:
    model = external(tmp_path / "model", location="w.bin")
    if constant:  # the weight as the attribute of a node
        proto = onnx.load(model, load_external_data=False)
        tensor = initializer(proto)
        proto.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
        proto.graph.initializer.remove(tensor)
        save(proto, model)
    ended = attempt(model=model, calib="random")
    assert ended.code == 0, ended
    shutil.rmtree(tmp_path / "model")  # a bundle needs nothing but itself
    dsedge.Bundle(tmp_path / "out" / "bundle").check_files()
    assert cli("verify", tmp_path / "out" / "bundle").code == 0


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"location": "none.bin"}, "missing"),
        ({"location": "."}, ""),
        ({"location": "../w.bin"}, "outside"),
        ({"location": "../model/../w.bin"}, "outside"),
        ({"location": "/etc/passwd"}, "outside"),
        ({"location": "link.bin"}, "outside"),
        ({"location": "folder/passwd"}, "outside"),
        ({"location": "w\0.bin"}, ""),
        ({"location": "w" * 5000}, ""),
        ({}, ""),
        ({"location": ""}, ""),
        ({"location": "w.bin", "length": str(TENSOR + 4)}, f"it has {TENSOR} bytes, {TENSOR + 4} are needed"),
        ({"location": "w.bin", "offset": "4", "length": str(TENSOR)}, "too short"),
        ({"location": "w.bin", "offset": "4"}, ""),
        ({"location": "w.bin", "offset": "-4"}, "offset '-4'"),
        ({"location": "w.bin", "offset": "0x10"}, "offset '0x10'"),
        ({"location": "w.bin", "length": "1e3"}, "length '1e3'"),
        ({"location": "w.bin", "offset": "9" * 15}, "too short"),
        ({"location": "w.bin", "offset": "9" * 30}, ""),
        ({"location": "w.bin", "offset": "9" * 5000}, ""),
        ({"location": "w.bin", "length": "8"}, ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_external_data(attempt: Attempt, tmp_path: Path, entries: dict[str, str], words: str) -> None:
    model = external(tmp_path / "model", **entries)
    (tmp_path / "w.bin").write_bytes(bytes(TENSOR))
    (tmp_path / "model" / "link.bin").symlink_to("/etc/passwd")
    (tmp_path / "model" / "folder").symlink_to("/etc")
    refused(attempt(model=model, calib="random"), "DS104", "m.onnx", words)


def test_external_data_in_a_body_and_in_an_attribute(attempt: Attempt, tmp_path: Path) -> None:
    for place in ("body", "attribute"):
        proto = small()
        tensor = TensorProto(name=WEIGHT, data_type=TensorProto.FLOAT, dims=[8], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="../../etc/passwd")
        attribute = proto.graph.node[0].attribute.add(name="a")
        if place == "body":
            attribute.type = attribute.GRAPH
            attribute.g.initializer.append(tensor)
        else:
            attribute.type = attribute.TENSOR
            attribute.t.CopyFrom(tensor)
        refused(attempt(model=save(proto, tmp_path / "m.onnx"), calib="random"), "DS104", "outside")
